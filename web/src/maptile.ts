// A tile of a map out of queries and keys at hand: every weight under it is passed over, so it is exact.

import type { Attend } from "./attend";
import type { MapQuery, MapTile } from "./protocol";
import { lastZoom, TILE } from "./tiling";

const DECADES = 6; // between a byte of 1 and one of 255

/** A weight on the scale that all maps share. */
export function logByte(weight: number): number {
  if (!(weight > 0)) return 0;
  const steps = Math.round(255 + (254 / DECADES) * Math.log10(Math.max(weight, 10 ** -DECADES)));
  return Math.max(1, Math.min(255, steps));
}

/** The weight that a byte stands for. */
export function byteWeight(byte: number): number {
  return byte ? 10 ** (((byte - 255) * DECADES) / 254) : 0;
}

/** `breath` lets the page have its turn between two rows, and ends the work by throwing. */
export async function mapTile(call: Attend, { head, zoom, row, column, how }: MapQuery, breath: () => Promise<void>): Promise<MapTile> {
  const last = lastZoom(call.queries, call.keys);
  if (zoom < 0 || zoom > last) throw new Error(`zoom must be from 0 to ${last}; got ${zoom}`);
  const [cell, side] = [2 ** zoom, TILE * 2 ** zoom];
  const [top, left] = [row * side, column * side];
  const [bottom, right] = [Math.min(call.queries, top + side), Math.min(call.keys, left + side)];
  if (top >= bottom || left >= right) throw new Error(`at zoom ${zoom} there is no tile (${row}, ${column})`);
  const [height, width] = [Math.ceil((bottom - top) / cell), Math.ceil((right - left) / cell)];
  const values = new Float64Array(height * width);
  const weights = new Float64Array(right - left);
  for (let i = top; i < bottom; i++) {
    call.weights(head, i, left, right, weights);
    const line = Math.floor((i - top) / cell) * width;
    for (let j = 0; j < weights.length; j++) {
      const at = line + Math.floor(j / cell);
      const [old, weight] = [values[at] as number, weights[j] as number];
      values[at] = how === "mean" ? old + weight : Math.max(old, weight);
    }
    await breath();
  }
  const under = (place: number, length: number) => Math.min(cell, length - place * cell);
  const pixels = Uint8Array.from(values, (value, at) => {
    if (how === "max") return logByte(value);
    return logByte(value / (under(Math.floor(at / width), bottom - top) * under(at % width, right - left)));
  });
  return { height, width, exact: true, refined: 1, pixels };
}
