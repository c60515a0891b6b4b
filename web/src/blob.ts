// The tensors of a static page: text to bytes, inflated, to typed arrays. Each is read when someone first asks for it.

import type { Ref } from "./protocol";

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{|}~".slice(0, 85);
const DIGITS = new Uint8Array(128);
for (let n = 0; n < 85; n++) DIGITS[ALPHABET.charCodeAt(n)] = n;

/** Five digits of base 85 are four bytes, the first the highest; n + 1 digits at the end are n bytes. */
export function decode85(text: string): Uint8Array<ArrayBuffer> {
  const whole = Math.floor(text.length / 5);
  const bytes = new Uint8Array(4 * whole + Math.max(0, (text.length % 5) - 1));
  const digit = (at: number) => (at < text.length ? (DIGITS[text.charCodeAt(at) & 127] as number) : 84);
  for (let at = 0, to = 0; at < text.length; at += 5) {
    const number = (((digit(at) * 85 + digit(at + 1)) * 85 + digit(at + 2)) * 85 + digit(at + 3)) * 85 + digit(at + 4);
    for (let shift = 24; shift >= 0 && to < bytes.length; shift -= 8) bytes[to++] = Math.floor(number / 2 ** shift) & 255;
  }
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
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

const SIZES = { float32: 4, float16: 2, steps: 4, bits: 1, uint8: 1 };

/** How many bytes a tensor takes. */
function nbytes({ shape, dtype }: Ref): number {
  if (!(dtype in SIZES)) throw new Error(`this page holds numbers of an unknown kind, ${String(dtype)}`);
  const last = shape.at(-1) ?? 1;
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return rows * (dtype === "bits" ? Math.ceil(last / 8) : last * SIZES[dtype]);
}

export class Parts {
  private readonly kept = new Map<string, Promise<Uint8Array | Float32Array | Int32Array>>();

  constructor(private readonly texts: string[]) {}

  /** Something made of the bytes of a tensor, made once. */
  private made<T extends Uint8Array | Float32Array | Int32Array>(ref: Ref, make: (bytes: Uint8Array, size: number) => T): Promise<T> {
    const name = `${ref.part}/${ref.dtype}`;
    let made = this.kept.get(name) as Promise<T> | undefined;
    if (!made) {
      made = this.read(ref).then((bytes) => make(bytes, bytes.length / SIZES[ref.dtype]));
      this.kept.set(name, made);
    }
    return made;
  }

  private async read(ref: Ref): Promise<Uint8Array> {
    const text = this.texts[ref.part];
    const size = nbytes(ref);
    const bytes = text === undefined ? new Uint8Array() : await inflate(decode85(text)).catch(() => new Uint8Array());
    if (text === undefined || bytes.length !== size) throw new Error("this page is damaged: a part of its numbers is missing. Export it again.");
    return bytes;
  }

  floats(ref: Ref): Promise<Float32Array> {
    return this.made(ref, (bytes, size) => {
      if (ref.dtype === "float32") {
        const mixed = new Uint8Array(bytes.length);
        for (let plane = 0; plane < 4; plane++) for (let i = 0; i < size; i++) mixed[4 * i + plane] = bytes[plane * size + i] as number;
        return new Float32Array(mixed.buffer);
      }
      halves ??= float16Table();
      const result = new Float32Array(size);
      for (let i = 0; i < size; i++) result[i] = halves[(bytes[i] as number) | ((bytes[size + i] as number) << 8)] as number;
      return result;
    });
  }

  /** Whole numbers, kept as steps along the last axis. */
  places(ref: Ref): Promise<Int32Array> {
    return this.made(ref, (bytes, size) => {
      const result = new Int32Array(size);
      const run = ref.shape.at(-1) ?? 1;
      for (let i = 0, sum = 0; i < size; i++) {
        const step = (bytes[i] as number) | ((bytes[size + i] as number) << 8) | ((bytes[2 * size + i] as number) << 16) | ((bytes[3 * size + i] as number) << 24);
        sum = i % run ? sum + step : step;
        result[i] = sum;
      }
      return result;
    });
  }

  bytes(ref: Ref): Promise<Uint8Array> {
    return this.made(ref, (bytes) => bytes);
  }

  async bits(ref: Ref): Promise<Bits> {
    return new Bits(await this.bytes(ref), ref.shape);
  }
}

/** A mask over (batch, heads, queries, keys), packed along the last axis, high bit first. */
export class Bits {
  private readonly perRow: number;

  constructor(private readonly packed: Uint8Array, readonly shape: number[]) {
    this.perRow = Math.ceil((shape[3] as number) / 8);
  }

  /** Byte offset of a row; a size of 1 stands for every index of that axis. */
  row(batch: number, head: number, query: number): number {
    const [b, h, q] = this.shape as [number, number, number];
    return (((b > 1 ? batch : 0) * h + (h > 1 ? head : 0)) * q + (q > 1 ? query : 0)) * this.perRow;
  }

  test(row: number, key: number): boolean {
    return ((this.packed[row + (key >> 3)] as number) & (128 >> (key & 7))) !== 0;
  }
}
