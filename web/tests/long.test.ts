// Long texts in a static page: intervals in the place of masks, known log-sum-exps, pooled pictures, listed weights.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Blob2 } from "../dev/sample";
import { makeCase, SHAPE } from "./dense";
import { EmbeddedSource } from "../src/embedded";
import type { ExactCall, ListedCall } from "../src/protocol";
import { WEIGHTS } from "../src/pyramid";
import { logByte } from "../src/scale";

const { H, Q, K } = SHAPE;
const where = { call: 0, sequence: 0 };

/** The parts of a page, to which more can be added. */
function after(texts: string[]): Blob2 {
  const blob = new Blob2();
  blob.texts.push(...texts);
  return blob;
}

function near(found: ArrayLike<number>, expected: number[], tolerance: number, name: string): void {
  assert.equal(found.length, expected.length, name);
  expected.forEach((value, n) => assert.ok(Math.abs((found[n] as number) - value) <= tolerance, `${name} ${n}: ${found[n]} is not ${value}`));
}

test("bytes and weights are inverse to 3 %, on one scale with the server's", () => {
  assert.deepEqual([logByte(0), logByte(NaN), logByte(1), logByte(1e-6), logByte(1e-9), logByte(1e-3)], [0, 0, 255, 1, 1, 128]);
  for (let byte = 0; byte < 256; byte++) assert.equal(logByte(WEIGHTS[byte]!), byte);
});

test("intervals that overlap show what a mask of bits shows", async () => {
  const made = makeCase({ causal: true });
  const blob = after(made.blob);
  const ends = (f: (i: number) => number) => ({ ...blob.steps([Array.from({ length: Q }, (_, i) => f(i))]), shape: [1, 1, Q] });
  const far = (i: number) => i + K - Q + 1;
  const call: ExactCall = {
    ...made.calls[0]!, mask: null, // all keys up to one's own, as the first nine and the rest, three of them twice
    spans: [{ first: ends(() => 0), last: ends((i) => Math.min(9, far(i))) }, { first: ends((i) => Math.min(6, far(i))), last: ends(far) }],
  };
  const source = new EmbeddedSource(made.doc, [call], blob.texts);
  const weights = made.weights(0);
  for (const index of [0, 5, Q - 1]) {
    const row = await source.row({ ...where, index, direction: "reads", level: "token" });
    near(row.weights, weights.flatMap((head) => head[index]!), 1e-6, `row ${index}`);
  }
  assert.equal((await source.pair({ ...where, head: 0, i: 2, j: far(2) }))!.allowed, false);
  assert.equal((await source.pair({ ...where, head: 0, i: 2, j: far(2) - 1 }))!.allowed, true);
});

test("a row's known log-sum-exp is taken as it is, and computed where it is none", async () => {
  const made = makeCase({});
  const blob = after(made.blob);
  const lse = Float32Array.from({ length: 2 * H * Q }, (_, n) => (n % Q === 3 ? NaN : 50));
  const source = new EmbeddedSource(made.doc, [{ ...made.calls[0]!, logsumexp: blob.add(lse, [2, H, Q], false) }], blob.texts);
  const row = async (index: number) => (await source.row({ ...where, index, direction: "reads", level: "token" })).weights;
  near(await row(3), made.weights(0).flatMap((head) => head[3]!), 1e-6, "computed");
  assert.ok((await row(2)).every((weight) => weight < 1e-9)); // exp(score - 50)
});

test("a bias by distance is that of query and key, past the padding", async () => {
  const made = makeCase({ bias: true });
  const blob = after(made.blob);
  const table = Float32Array.from({ length: Q + K - 1 }, (_, n) => Math.sin(n));
  const shift = Q - 1;
  const call = { ...made.calls[0]!, bias: null, distances: { table: blob.add(table, [1, Q + K - 1], false), shifts: [shift, shift + 2] } };
  const source = new EmbeddedSource(made.doc, [call], blob.texts);
  for (const sequence of [0, 1]) {
    const pair = (await source.pair({ call: 0, sequence, head: 1, i: 4, j: 9 }))!;
    assert.ok(Math.abs(pair.bias! - Math.sin(9 - 4 + shift + 2 * sequence)) < 1e-6);
  }
});

/** A page of one head of 10 x 6 tokens that holds two weights of each row, and a picture of 2 x 2 tokens a cell. */
function listed(): EmbeddedSource {
  const blob = new Blob2();
  const [queries, keys, k] = [10, 6, 2];
  const places = blob.steps(Array.from({ length: queries }, (_, i) => [i % 3, 3 + (i % 3)]));
  const weights = blob.add(Float32Array.from({ length: queries * k }, (_, n) => (n % 2 ? 0.25 : 0.5)), [1, 1, queries, k], false);
  const rest = blob.add(Float32Array.from({ length: queries }, (_, i) => (i ? 0.25 : 0)), [1, 1, queries], false);
  const cells = (height: number, width: number) => blob.push(Uint8Array.from({ length: height * width }, (_, n) => 255 - 10 * n), [1, 1, height, width], "uint8");
  const call: ListedCall = {
    lengths: [[queries, keys]],
    top: { k, places: { ...places, shape: [1, 1, queries, k] }, weights, rest },
    overview: { max: { zoom: 1, cells: cells(5, 3) }, mean: { zoom: 2, cells: cells(3, 2) }, entropy: [[1.5]] },
  };
  const text = (length: number) => ({ text: Array(length).fill("x"), word: Array.from({ length }, (_, n) => n >> 1), special: Array(length).fill(false) });
  const doc = makeCase({}).doc;
  const facts = { ...doc.calls[0]!, heads: 1, queries, keys, kept: k };
  return new EmbeddedSource({ ...doc, calls: [facts], sequences: [{ source: text(keys), target: text(queries) }] }, [call], blob.texts);
}

test("what is not listed of a row is NaN, or 0 where there is no rest", async () => {
  const source = listed();
  const row = async (index: number, direction: "reads" | "read_by", level: "token" | "word" = "token") => Array.from((await source.row({ ...where, index, direction, level })).weights);
  assert.deepEqual(await row(0, "reads"), [0.5, 0, 0, 0.25, 0, 0]);
  assert.deepEqual(await row(4, "reads"), [NaN, 0.5, NaN, NaN, 0.25, NaN]);
  assert.deepEqual((await row(0, "read_by")).slice(0, 4), [0.5, NaN, NaN, 0.5]);
  // Word 2 is rows 4 and 5: 0.5 at keys 1 and 2, 0.25 at 4 and 5; means over both rows of sums over two keys
  assert.deepEqual(await row(2, "reads", "word"), [0.25, 0.25, 0.25]);
  const best = await source.topk({ ...where, index: 4, direction: "reads", level: "token", k: 1 });
  assert.deepEqual([best.indices, best.weights, best.rest], [[[1]], [[0.5]], [0.5]]);
  assert.equal(await source.pair({ ...where, head: 0, i: 4, j: 1 }), null);
});

test("maps are pooled from the picture, weighted by what a cell covers, and say whether all is under a pixel", async () => {
  const source = listed();
  const tile = (zoom: number, how: "max" | "mean") => source.map({ ...where, head: 0, zoom, row: 0, column: 0, how });
  const fine = await tile(1, "max");
  assert.deepEqual([fine.height, fine.width, fine.exact, fine.refined], [5, 3, true, 1]);
  assert.deepEqual(Array.from(fine.pixels), Array.from({ length: 15 }, (_, n) => 255 - 10 * n));
  const coarse = await tile(2, "max");
  assert.deepEqual(Array.from(coarse.pixels), [255, 235, 195, 175, 135, 115]);
  const blurred = await tile(1, "mean");
  assert.equal(blurred.exact, false);
  assert.deepEqual(Array.from(blurred.pixels).slice(0, 3), [255, 255, 245]);
  const means = await tile(3, "mean"); // cells of 4 x 4, 4 x 2; 4 x 4, 4 x 2; 2 x 4, 2 x 2 tokens
  const weight = (n: number) => WEIGHTS[255 - 10 * n]!;
  near([WEIGHTS[means.pixels[0]!]!], [(16 * weight(0) + 8 * weight(1) + 16 * weight(2) + 8 * weight(3)) / 48], 0.03, "mean");
  near([WEIGHTS[means.pixels[1]!]!], [(8 * weight(4) + 4 * weight(5)) / 12], 0.03, "mean at the end");
  const single = await tile(0, "max"); // so near that what is listed is shown
  assert.deepEqual(Array.from(single.pixels.subarray(0, 6)), [0.5, 0, 0, 0.25, 0, 0].map(logByte));
  assert.equal(single.exact, false);
});

test("tiles and thumbnails come from the picture too", async () => {
  const source = listed();
  const tile = await source.tile({ ...where, head: 0, r0: 0, r1: 10, c0: 0, c1: 6, height: 5, width: 3, how: "max", level: "token" });
  assert.deepEqual([tile.pooled, tile.peak], [2, 1]);
  near(tile.pixels, Array.from({ length: 15 }, (_, n) => 255 * WEIGHTS[255 - 10 * n]!), 0.51, "pixels");
  const { size, peak, entropy, pixels } = await source.thumbnails(where);
  assert.deepEqual([size, peak, entropy, pixels[0]], [10, [1], [1.5], 255]);
});
