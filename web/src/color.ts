// Colours that drawings need as numbers; everything else is in foveate.css.

export type Theme = "light" | "dark";

/** One colour per head, told apart on either background; the seventeenth head starts again. */
const HEADS: Record<Theme, string[]> = {
  light: [
    "#2f6bdb", "#d9660a", "#1d8a4e", "#cf2e45", "#8447d6", "#0b8793", "#c2379b", "#7b7a06",
    "#94592a", "#4d5fa8", "#5b9a1e", "#e0457b", "#5a4bd8", "#a9790a", "#3a7a6a", "#7a4a6e",
  ],
  dark: [
    "#7aa7ff", "#ffab5e", "#5fd394", "#ff7d8d", "#bf98ff", "#4fd0dd", "#f58bd5", "#c9c94c",
    "#d9a273", "#9db0f2", "#a6dd6b", "#ff92b8", "#a79dff", "#e8bf56", "#83cdb8", "#cf9fc4",
  ],
};

export const INK: Record<Theme, { accent: string; mark: string; text: string; muted: string; faint: string; panel: string; negative: string }> = {
  light: { accent: "#4338ca", mark: "#c2620a", text: "#1f1d2b", muted: "#686579", faint: "#dcdae6", panel: "#ffffff", negative: "#c2620a" },
  dark: { accent: "#a99dff", mark: "#ffb454", text: "#ecebf4", muted: "#9d9bb0", faint: "#34344a", panel: "#191a24", negative: "#ffb454" },
};

/** Stops of the heat table, from no weight to the largest; lightness runs one way only. */
const STOPS: Record<Theme, string[]> = {
  light: ["#ffffff", "#e6e7fb", "#bfc2f5", "#8f8eea", "#635cd9", "#4336b4", "#2b1f7d", "#180f4a"],
  dark: ["#191a24", "#26264a", "#383580", "#5248b4", "#7869e0", "#a596f7", "#d3c8ff", "#fffaf0"],
};

export function headColor(theme: Theme, head: number): string {
  const palette = HEADS[theme];
  return palette[head % palette.length] as string;
}

export function rgb(hex: string): [number, number, number] {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export function alpha(hex: string, opacity: number): string {
  const [r, g, b] = rgb(hex);
  return `rgba(${r}, ${g}, ${b}, ${opacity.toFixed(3)})`;
}

const tables: Partial<Record<Theme, Uint32Array>> = {};

/** 256 opaque colours as little-endian RGBA words. */
export function heatTable(theme: Theme): Uint32Array {
  const present = tables[theme];
  if (present) return present;
  const stops = STOPS[theme].map(rgb);
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    const part = at - low;
    const mix = (channel: 0 | 1 | 2) => {
      const [from, to] = [stops[low] as number[], stops[low + 1] as number[]];
      return Math.round((from[channel] as number) * (1 - part) + (to[channel] as number) * part);
    };
    table[i] = (255 << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0);
  }
  tables[theme] = table;
  return table;
}

/** Where a weight falls in the heat table: a square root, so that small weights can be told from none. */
export function heatIndex(weight: number, peak: number): number {
  if (!(weight > 0) || !(peak > 0)) return 0;
  return Math.min(255, Math.round(255 * Math.sqrt(weight / peak)));
}

/** Colours uint8 pixels that stand for 0 .. tilePeak on a scale that ends at peak. */
export function paint(pixels: Uint8Array, width: number, height: number, tilePeak: number, peak: number, theme: Theme): ImageData {
  const table = heatTable(theme);
  const lookup = new Uint32Array(256);
  for (let i = 0; i < 256; i++) lookup[i] = table[heatIndex((i / 255) * tilePeak, peak)] as number;
  return coloured(pixels, width, height, lookup);
}

/** The heat table for bytes on the scale that all maps share: its colours begin at byte `low`, even ratios are even steps. */
export function logTable(low: number, theme: Theme): Uint32Array {
  const table = heatTable(theme);
  return Uint32Array.from({ length: 256 }, (_, byte) => table[Math.round(255 * Math.max(0, (byte - low) / (255 - low)) ** 1.8)] as number);
}

/** Bytes as the colours that a table of 256 has for them. */
export function coloured(pixels: Uint8Array, width: number, height: number, table: Uint32Array): ImageData {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = table[pixels[i] as number] as number;
  return image;
}

/** Stroke of a line that carries a weight. */
export function lineWidth(weight: number, widest: number): number {
  return Math.max(0.5, weight * widest);
}

export function lineOpacity(weight: number): number {
  return Math.min(1, 0.14 + 0.86 * Math.sqrt(Math.max(0, weight)));
}
