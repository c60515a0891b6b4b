import assert from "node:assert/strict";
import { test } from "node:test";
import { Blob2, encode85 } from "../dev/sample";
import { Bits, decode85, Parts } from "../src/blob";

test("float16 takes every kind of value", async () => {
  const bits = [0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x8000, 0x7c00, 0xfc00, 0x3555, 0x7e00];
  const blob = new Blob2();
  const ref = blob.push(new Uint8Array(Uint16Array.from(bits).buffer), [bits.length], "float16");
  const values = await new Parts(blob.texts).floats(ref);
  assert.deepEqual(Array.from(values.slice(0, 8)), [1, -2, 65504, 2 ** -24, 2 ** -14, -0, Infinity, -Infinity]);
  assert.ok(Math.abs(values[8]! - 1 / 3) < 1e-4);
  assert.ok(Number.isNaN(values[9]));
});

test("steps add up along the last axis", async () => {
  const blob = new Blob2();
  const ref = blob.steps([[3, 3, 70000], [0, 9, 1]]);
  assert.deepEqual(Array.from(await new Parts(blob.texts).places(ref)), [3, 3, 70000, 0, 9, 1]);
});

test("bits are packed high first, each row on its own byte", () => {
  const bits = new Bits(Uint8Array.of(0b10100000, 0b01000000, 0b00000000, 0b10000000), [1, 1, 2, 10]);
  const row = (i: number) => Array.from({ length: 10 }, (_, j) => Number(bits.test(bits.row(0, 5, i), j)));
  assert.deepEqual(row(0), [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
  assert.deepEqual(row(1), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
});

test("any number of bytes comes back from base 85", () => {
  for (let length = 0; length < 11; length++) for (const fill of [0, 7, 255]) {
    const bytes = new Uint8Array(length).fill(fill);
    assert.deepEqual(Array.from(decode85(encode85(bytes))), Array.from(bytes));
  }
});

test("a part that is cut short is an error in words", async () => {
  const blob = new Blob2();
  const ref = blob.add(Float32Array.of(1, 2, 3), [3], false);
  await assert.rejects(new Parts([blob.texts[0]!.slice(0, 5)]).floats(ref), /this page is damaged/);
  await assert.rejects(new Parts([]).floats(ref), /this page is damaged/);
  await assert.rejects(new Parts(blob.texts).floats({ ...ref, shape: [4] }), /this page is damaged/);
});
