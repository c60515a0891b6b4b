import assert from "node:assert/strict";
import { test } from "node:test";
import { Bits, decodeBase64, floats } from "../src/blob";

test("float16 takes every kind of value", () => {
  const bits = [0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000, 0x7c00, 0xfc00, 0x3555];
  const blob = Uint16Array.from(bits).buffer;
  const values = floats(blob, { offset: 0, shape: [bits.length], dtype: "float16" });
  assert.deepEqual(Array.from(values.slice(0, 8)), [1, -2, 65504, 2 ** -24, 2 ** -14, -0, Infinity, -Infinity]);
  assert.ok(Math.abs(values[8]! - 1 / 3) < 1e-4);
  assert.ok(Number.isNaN(floats(Uint16Array.of(0x7e00).buffer, { offset: 0, shape: [1], dtype: "float16" })[0]));
});

test("an offset that is not aligned is read all the same", () => {
  const bytes = new Uint8Array(9);
  bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 1);
  assert.deepEqual(Array.from(floats(bytes.buffer, { offset: 1, shape: [2], dtype: "float32" })), [1.5, -2]);
});

test("bits are packed high first, each row on its own byte", () => {
  const bits = new Bits(Uint8Array.of(0b10100000, 0b01000000, 0b00000000, 0b10000000).buffer, [1, 1, 2, 10]);
  const row = (i: number) => Array.from({ length: 10 }, (_, j) => Number(bits.test(bits.row(0, 5, i), j)));
  assert.deepEqual(row(0), [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
  assert.deepEqual(row(1), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
});

test("base64", () => {
  assert.deepEqual(Array.from(new Uint8Array(decodeBase64(Buffer.from([0, 255, 7]).toString("base64")))), [0, 255, 7]);
});
