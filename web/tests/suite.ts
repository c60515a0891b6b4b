// What every source must answer, run on each of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase, SHAPE } from "./dense";
import type { Case, Options } from "./dense";
import { wordStarts } from "../src/units";
import type { Source } from "../src/source";

export type Open = (made: Case) => { source: Source; close(): void };

const CASES: Record<string, Options> = {
  plain: {}, causal: { causal: true }, bias: { bias: true }, sink: { sink: true }, softcap: { softcap: 3 }, float16: { half: true }, cached: { offset: 4 }, dense: { dense: true }, "dense, biased": { dense: true, bias: true, causal: true },
};

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string, tolerance = 2e-6): void {
  assert.equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++) assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `${what}[${i}]: ${actual[i]} is not ${expected[i]}`);
}

/** Mean over a row unit's tokens of the sum over a column unit's tokens. */
function byWord(weights: number[][], rows: Int32Array, columns: Int32Array): number[][] {
  const spans = (starts: Int32Array) => Array.from({ length: starts.length - 1 }, (_, u) => [starts[u]!, starts[u + 1]!] as const);
  return spans(rows).map(([r0, r1]) => spans(columns).map(([c0, c1]) => {
    let sum = 0;
    for (let i = r0; i < r1; i++) for (let j = c0; j < c1; j++) sum += weights[i]![j]!;
    return sum / (r1 - r0);
  }));
}

async function checkRows(source: Source, made: Case): Promise<void> {
  for (const sequence of [0, 1]) {
    const weights = made.weights(sequence);
    const [queries, keys] = [weights[0]!.length, weights[0]![0]!.length];
    for (const index of [0, queries - 1]) {
      const row = await source.row({ call: 0, sequence, index, direction: "reads", level: "token" });
      assert.deepEqual([row.heads, row.length], [SHAPE.H, keys]);
      near(row.weights, weights.flatMap((head) => head[index]!), `row ${index}`);
    }
    const column = await source.row({ call: 0, sequence, index: 3, direction: "read_by", level: "token" });
    near(column.weights, weights.flatMap((head) => head.map((row) => row[3]!)), "column 3");
    const { target, source: left } = made.doc.sequences[sequence]!;
    const offset = made.doc.calls[0]!.offset;
    const rows = wordStarts((target ?? left).word, offset, queries);
    const columns = wordStarts(left.word, 0, keys);
    const words = weights.map((head) => byWord(head, rows, columns));
    const wordRow = await source.row({ call: 0, sequence, index: 1, direction: "reads", level: "word" });
    near(wordRow.weights, words.flatMap((head) => head[1]!), "word row 1");
    const wordColumn = await source.row({ call: 0, sequence, index: 2, direction: "read_by", level: "word" });
    near(wordColumn.weights, words.flatMap((head) => head.map((row) => row[2]!)), "word column 2");
    if (!made.calls[0]!.sinks) near([...Array(SHAPE.H).keys()].map((h) => wordRow.weights.subarray(h * wordRow.length, (h + 1) * wordRow.length).reduce((a, b) => a + b, 0)), Array(SHAPE.H).fill(1), "a word row sums to 1");
  }
}

async function checkTopK(source: Source, made: Case): Promise<void> {
  const weights = made.weights(0);
  const { indices, weights: best, rest } = await source.topk({ call: 0, sequence: 0, index: 5, direction: "reads", level: "token", k: 4 });
  weights.forEach((head, h) => {
    const order = head[5]!.map((w, j) => [w, j] as const).sort((a, b) => b[0] - a[0]);
    near(best[h]!, order.slice(0, 4).map(([w]) => w), "top weights");
    assert.deepEqual(indices[h]!.map((j) => head[5]![j]!.toFixed(5)), order.slice(0, 4).map(([w]) => w.toFixed(5)));
    near([rest[h]!], [order.slice(4).reduce((a, [w]) => a + w, 0)], "rest");
  });
}

async function checkTiles(source: Source, made: Case): Promise<void> {
  const head = made.weights(0)[2]!;
  const whole = await source.tile({ call: 0, sequence: 0, head: 2, r0: 1, r1: 10, c0: 2, c1: 15, height: 9, width: 13, how: "max", level: "token" });
  const cells = head.slice(1, 10).flatMap((row) => row.slice(2, 15));
  near([whole.peak], [Math.max(...cells)], "peak");
  near(whole.pixels, cells.map((w) => (255 * w) / whole.peak), "pixels", 0.51);
  for (const how of ["max", "mean"] as const) {
    const tile = await source.tile({ call: 0, sequence: 0, head: 2, r0: 0, r1: 11, c0: 0, c1: 17, height: 4, width: 5, how, level: "token" });
    const pooled: number[] = [];
    for (let y = 0; y < 4; y++) for (let x = 0; x < 5; x++) {
      const values = head.slice(Math.floor((y * 11) / 4), Math.ceil(((y + 1) * 11) / 4)).flatMap((row) => row.slice(Math.floor((x * 17) / 5), Math.ceil(((x + 1) * 17) / 5)));
      pooled.push(how === "max" ? Math.max(...values) : values.reduce((a, b) => a + b, 0) / values.length);
    }
    near([tile.peak], [Math.max(...pooled)], `${how} peak`);
    near(tile.pixels, pooled.map((w) => (255 * w) / tile.peak), `${how} pixels`, 0.51);
  }
}

async function checkThumbnails(source: Source, made: Case): Promise<void> {
  const weights = made.weights(1);
  const pictures = await source.thumbnails({ call: 0, sequence: 1 });
  assert.equal(pictures.heads, SHAPE.H);
  assert.equal(pictures.pixels.length, SHAPE.H * pictures.size ** 2);
  near(pictures.peak, weights.map((head) => Math.max(...head.flat())), "peaks");
  near(pictures.entropy, weights.map((head) => head.flat().reduce((a, w) => a - (w > 0 ? w * Math.log(w) : 0), 0) / head.length), "entropy");
  for (let h = 0; h < SHAPE.H; h++) assert.equal(Math.max(...pictures.pixels.subarray(h * pictures.size ** 2, (h + 1) * pictures.size ** 2)), 255);
}

async function checkPair(source: Source, made: Case): Promise<void> {
  const weights = made.weights(0);
  for (const [head, i, j] of [[0, 0, 0], [4, 6, 3], [5, 2, 16]] as const) {
    const pair = (await source.pair({ call: 0, sequence: 0, head, i, j }))!;
    const weight = weights[head]![i]![j]!;
    near([pair.weight!], [weight], "weight");
    if (made.calls[0]!.dense) assert.deepEqual([pair.products, pair.scale, pair.scaled, pair.score_name], [null, null, pair.score, "additive"]);
    else {
      const products = pair.products ?? [];
      near(products, pair.query.map((x, d) => x * pair.key[d]!), "products");
      near([pair.score!], [products.reduce((a, b) => a + b, 0)], "score", 1e-5);
      const raw = pair.score! * pair.scale!;
      near([pair.scaled!], [pair.softcap ? pair.softcap * Math.tanh(raw / pair.softcap) : raw], "scaled", 1e-5);
    }
    near([pair.allowed ? Math.exp(pair.scaled! + (pair.bias ?? 0) - pair.logsumexp!) : 0], [weight], "the softmax of the numbers shown");
    near(pair.contribution!, pair.value!.map((x) => x * weight), "contribution", 1e-5);
    const row = await Promise.all(weights[head]![i]!.map(async (w, at) => (await source.pair({ call: 0, sequence: 0, head, i, j: at }))!.value!.map((x) => x * w)));
    near(pair.output!, row.reduce((a, b) => a.map((x, d) => x + b[d]!)), "output", 1e-5);
  }
}

export function suite(name: string, open: Open): void {
  for (const [title, options] of Object.entries(CASES)) {
    test(`${name}: ${title}`, async () => {
      const made = makeCase(options);
      const { source, close } = open(made);
      try {
        assert.deepEqual(await source.document(), made.doc);
        for (const check of [checkRows, checkTopK, checkTiles, checkThumbnails, checkPair]) await check(source, made);
      } finally {
        close();
      }
    });
  }
}
