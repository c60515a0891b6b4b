// The weights of a word or a part over a picture: how strong each part is, in which colour, and the picture itself.

import { heatIndex } from "./color";
import type { Theme } from "./color";
import { boxOf } from "./picturelayout";
import type { Frame } from "./picturelayout";
import type { Picture } from "./protocol";
import type { Session } from "./session";
import { cellText, LEAST } from "./views/numbers";
import { largest, meanWeight } from "./weights";

/** Weights of the parts, row by row, the mean of the heads that are shown; NaN where one was not asked for. */
export interface Overlay {
  weights: Float32Array;
  /** The largest of them: full strength. */
  peak: number;
  /** Where it is, in `weights`. */
  strongest: number;
}

/** What lies over a picture now; nothing where its parts are not what is looked at, or by. */
export function overlayOf(session: Session, frame: Frame): Overlay | null {
  const { shown, weights, heads } = session;
  if (session.bare || !shown || !weights || session.sides(shown.direction).to.grid === null) return null;
  const parts = frame.picture.rows * frame.picture.columns;
  const found = Float32Array.from({ length: parts }, (_, part) => meanWeight(weights, heads, frame.first + part));
  let strongest = 0;
  found.forEach((weight, part) => { if (weight > (found[strongest] as number)) strongest = part; });
  return { weights: found, peak: found[strongest] ?? 0, strongest };
}

/** Under an overlay the picture steps back, so that colours can be told from its own. */
export const VEIL: Record<Theme, { color: readonly [number, number, number]; opacity: number }> = {
  light: { color: [255, 255, 255], opacity: 0.5 },
  dark: { color: [16, 14, 28], opacity: 0.6 },
};

/** From nothing to full strength: red, green, blue, 0 to 255, and opacity, 0 to 1. */
const STOPS: Record<Theme, readonly (readonly [number, number, number, number])[]> = {
  light: [[120, 110, 240, 0], [92, 84, 226, 0.3], [70, 56, 200, 0.52], [44, 28, 150, 0.7]],
  dark: [[120, 105, 230, 0], [140, 122, 245, 0.36], [178, 164, 250, 0.56], [236, 228, 255, 0.76]],
};

/** The colour of a weight over a picture whose strongest is `peak`; a square root, as in the heatmap. */
export function tint(weight: number, peak: number, theme: Theme): [red: number, green: number, blue: number, opacity: number] {
  const at = (heatIndex(weight, peak) / 255) * (STOPS[theme].length - 1);
  const low = Math.min(STOPS[theme].length - 2, Math.floor(at));
  const [from, to] = [STOPS[theme][low] as readonly number[], STOPS[theme][low + 1] as readonly number[]];
  const mix = (n: number) => (from[n] as number) + ((to[n] as number) - (from[n] as number)) * (at - low);
  return [Math.round(mix(0)), Math.round(mix(1)), Math.round(mix(2)), mix(3)];
}

/** Pixels of a part from which it has room for a number, and how many parts get one. */
const NUMBERED = 40;
const NUMBERS = 8;

export interface PartNumber {
  x: number;
  y: number;
  text: string;
  /** Whether dark ink can be read there. */
  dark: boolean;
}

/** The numbers in the strongest parts, from the frame's corner; none where parts are small. */
export function numbersOf({ weights, peak }: Overlay, frame: Frame, theme: Theme): PartNumber[] {
  const px = Math.min(frame.width / frame.picture.columns, frame.height / frame.picture.rows);
  if (px < NUMBERED) return [];
  return largest(weights, NUMBERS, (part) => (weights[part] as number) >= LEAST).map(([part, weight]) => {
    const { x, y, width, height } = boxOf(frame, frame.first + part);
    return { x: x + width / 2, y: y + height / 2, text: cellText(weight, px), dark: (theme === "light") === tint(weight, peak, theme)[3] < 0.45 };
  });
}

/** The overlay as a picture of one pixel a part. */
export function tinted({ weights, peak }: Overlay, columns: number, rows: number, theme: Theme): ImageData {
  const image = new ImageData(columns, rows);
  weights.forEach((weight, part) => {
    const [red, green, blue, opacity] = tint(weight, peak, theme);
    image.data.set([red, green, blue, Math.round(255 * opacity)], 4 * part);
  });
  return image;
}

const decoded = new WeakMap<Picture, ImageBitmap | null>();

/** The pixels of a picture, once its file is read; `ready` is told when that is later. */
export function pixelsOf(picture: Picture, ready: () => void, failed: (error: unknown) => void): ImageBitmap | null {
  const known = decoded.get(picture);
  if (known !== undefined) return known;
  decoded.set(picture, null);
  const bytes = Uint8Array.from(atob(picture.png), (letter) => letter.charCodeAt(0));
  createImageBitmap(new Blob([bytes], { type: "image/png" })).then((pixels) => {
    decoded.set(picture, pixels);
    ready();
  }, () => failed(new Error("The picture of this document could not be read.")));
  return null;
}
