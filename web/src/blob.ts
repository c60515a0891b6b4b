// The tensors of a static page: base64 to typed arrays.

import type { Ref } from "./protocol";

export function decodeBase64(text: string): ArrayBuffer {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

/** Every float16 as the float32 of the same value. */
function float16Table(): Float32Array {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

let halves: Float32Array | null = null;

function count(shape: number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function floats(blob: ArrayBuffer, ref: Ref): Float32Array {
  const size = count(ref.shape);
  if (ref.dtype === "float32") {
    return ref.offset % 4 ? new Float32Array(blob.slice(ref.offset, ref.offset + 4 * size)) : new Float32Array(blob, ref.offset, size);
  }
  if (ref.dtype !== "float16") throw new Error(`this page holds numbers of an unknown kind, ${String(ref.dtype)}`);
  halves ??= float16Table();
  const raw = ref.offset % 2 ? new Uint16Array(blob.slice(ref.offset, ref.offset + 2 * size)) : new Uint16Array(blob, ref.offset, size);
  const result = new Float32Array(size);
  for (let i = 0; i < size; i++) result[i] = halves[raw[i] as number] as number;
  return result;
}

/** A mask over (batch, heads, queries, keys), packed along the last axis, high bit first. */
export class Bits {
  private readonly bytes: Uint8Array;
  private readonly perRow: number;

  constructor(blob: ArrayBuffer, readonly shape: number[]) {
    this.perRow = Math.ceil((shape[3] as number) / 8);
    this.bytes = new Uint8Array(blob);
  }

  static at(blob: ArrayBuffer, ref: Ref): Bits {
    const [b, h, q, k] = ref.shape as [number, number, number, number];
    const size = b * h * q * Math.ceil(k / 8);
    return new Bits(blob.slice(ref.offset, ref.offset + size), ref.shape);
  }

  /** Byte offset of a row; a size of 1 stands for every index of that axis. */
  row(batch: number, head: number, query: number): number {
    const [b, h, q] = this.shape as [number, number, number];
    return (((b > 1 ? batch : 0) * h + (h > 1 ? head : 0)) * q + (q > 1 ? query : 0)) * this.perRow;
  }

  test(row: number, key: number): boolean {
    return ((this.bytes[row + (key >> 3)] as number) & (128 >> (key & 7))) !== 0;
  }
}
