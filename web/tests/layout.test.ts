import assert from "node:assert/strict";
import { test } from "node:test";
import { axes, folded, follow, unitAt } from "../src/units";
import { within } from "../src/layout";
import type { Placed } from "../src/layout";
import { cellText } from "../src/views/numbers";
import { denseWeights, largest, sparseWeights } from "../src/weights";
import { makeCase } from "./dense";

test("axes count tokens or words, from the offset of a cached step", () => {
  const { doc } = makeCase({ offset: 4 });
  const call = doc.calls[0]!;
  const tokens = axes(doc, call, 0, "token");
  assert.deepEqual([tokens.query.length, tokens.key.length, tokens.self], [11, 15, true]);
  const words = axes(doc, call, 0, "word");
  assert.equal(words.query.text[0], "w2.4w2.5"); // word 2 began before the offset
  assert.equal(follow(tokens.key, 6, tokens.query), 2);
  assert.equal(follow(tokens.query, 2, tokens.key), 6);
  assert.equal(unitAt(words.key, 5), 2);
});

test("weights of tokens add up to those of their words, head by head", () => {
  const row = folded({ heads: 2, length: 4, weights: Float32Array.of(0.5, 0.25, 0.125, 0.125, 0, 1, 0, 0) }, Int32Array.of(0, 1, 3, 4));
  assert.deepEqual([row.heads, row.length, Array.from(row.weights)], [2, 3, [0.5, 0.375, 0.125, 0, 1, 0]]);
});

test("a number in a cell loses its zero before it loses a digit", () => {
  assert.deepEqual([cellText(0.837, 30), cellText(0.837, 40), cellText(0.999, 30), cellText(1, 40)], [".84", "0.84", "1.0", "1.00"]);
});

test("only the words in sight are found", () => {
  const y = Float32Array.from({ length: 100_000 }, (_, i) => Math.floor(i / 10) * 30);
  const placed = { y, h: 24 } as Placed;
  assert.deepEqual(within(placed, 3000, 3100), [1000, 1040]);
  assert.deepEqual(within(placed, -500, 10), [0, 10]);
});

test("the largest weights, largest first", () => {
  assert.deepEqual(largest([0.1, 0.5, 0, 0.4, 0.5], 3, () => true), [[1, 0.5], [4, 0.5], [3, 0.4]]);
  const dense = denseWeights({ heads: 2, length: 3, weights: Float32Array.of(0.5, 0.25, 0.25, 0, 1, 0) });
  assert.deepEqual(dense.top(1, 5), [[1, 1]]);
  assert.equal(dense.at(0, 2), 0.25);
  const sparse = sparseWeights({ indices: [[7, 2]], weights: [[0.75, 0.125]], rest: [0.125] }, 9);
  assert.deepEqual([sparse.at(0, 2), Number.isNaN(sparse.at(0, 3)), sparse.top(0, 1)], [0.125, true, [[7, 0.75]]]);
});
