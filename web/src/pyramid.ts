// Pooled pictures of the heads of a call, inside a static page: any part of a map, as fine as their cells.

import type { Parts } from "./blob";
import type { Overview } from "./protocol";
import { byteWeight } from "./scale";

/** The weight that a byte stands for. */
export const WEIGHTS = Float64Array.from({ length: 256 }, (_, byte) => byteWeight(byte));

/** Pictures of all heads, weights by their bytes. */
interface Level {
  zoom: number;
  height: number;
  width: number;
  cells: Uint8Array;
}

export type How = "max" | "mean";

export class Pyramid {
  private constructor(
    private readonly levels: Record<How, Level>, readonly heads: number, private readonly sequence: number, readonly queries: number, readonly keys: number,
    readonly entropy: number[],
  ) {}

  static async open(overview: Overview, parts: Parts, sequence: number, [queries, keys]: [number, number]): Promise<Pyramid> {
    const level = async ({ zoom, cells }: Overview["max"]): Promise<Level> => ({ zoom, height: cells.shape[2] as number, width: cells.shape[3] as number, cells: await parts.bytes(cells) });
    const levels = { max: await level(overview.max), mean: await level(overview.mean) };
    return new Pyramid(levels, overview.max.cells.shape[1] as number, sequence, queries, keys, overview.entropy[sequence] as number[]);
  }

  /** How many tokens are on a side of a cell, as a power of two. */
  zoom(how: How): number {
    return this.levels[how].zoom;
  }

  /** Rows r0..r1-1 and columns c0..c1-1 as height x width weights: of the cells under a pixel the largest, or their mean. */
  pooled(head: number, how: How, r0: number, r1: number, c0: number, c1: number, height: number, width: number): Float64Array {
    const { zoom, height: h, width: w, cells } = this.levels[how];
    const at = (this.sequence * this.heads + head) * h * w;
    const result = new Float64Array(height * width);
    const rows = bins(r0, r1, height, zoom, this.queries);
    const columns = bins(c0, c1, width, zoom, this.keys);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let best = 0;
        let sum = 0;
        let count = 0;
        for (let r = rows[2 * y] as number; r < (rows[2 * y + 1] as number); r++) {
          const tall = Math.min(this.queries, (r + 1) << zoom) - (r << zoom);
          for (let c = columns[2 * x] as number; c < (columns[2 * x + 1] as number); c++) {
            const byte = cells[at + r * w + c] as number;
            if (byte > best) best = byte;
            if (how === "max") continue;
            const area = tall * (Math.min(this.keys, (c + 1) << zoom) - (c << zoom));
            sum += area * (WEIGHTS[byte] as number);
            count += area;
          }
        }
        result[y * width + x] = how === "max" ? (WEIGHTS[best] as number) : count ? sum / count : 0;
      }
    }
    return result;
  }
}

/** Which cells each of `count` pixels over tokens from..to-1 touches, of those of a text: first, last + 1, pair after pair. */
function bins(from: number, to: number, count: number, zoom: number, length: number): Int32Array {
  const result = new Int32Array(2 * count);
  const size = to - from;
  for (let p = 0; p < count; p++) {
    const [first, last] = [from + Math.floor((p * size) / count), from + Math.ceil(((p + 1) * size) / count)];
    result[2 * p] = first >> zoom;
    result[2 * p + 1] = ((Math.min(length, last) - 1) >> zoom) + 1;
  }
  return result;
}
