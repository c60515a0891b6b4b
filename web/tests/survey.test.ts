import assert from "node:assert/strict";
import { test } from "node:test";
import { clusters, linkage, ordered } from "../src/survey/clusters";
import { linesOf, nameOf, type Report } from "../src/survey/data";

/** Two groups, a pair within one of them closest, and a head of another class. */
const AGREEMENT = [
  [1.0, 0.9, 0.2, 0.1, null],
  [0.9, 1.0, 0.4, 0.3, null],
  [0.2, 0.4, 1.0, 0.8, null],
  [0.1, 0.3, 0.8, 1.0, null],
  [null, null, null, null, 1.0],
];

test("heads merge by their average agreement, those of other classes last", () => {
  const merges = linkage(AGREEMENT);
  assert.deepEqual(merges.map(({ left, right }) => [left, right]), [[0, 1], [2, 3], [5, 6], [7, 4]]);
  assert.deepEqual(merges.slice(0, 2).map(({ agreement }) => agreement), [0.9, 0.8]);
  assert.ok(Math.abs(merges[2]!.agreement - 0.25) < 1e-12, "the mean of 0.2, 0.1, 0.4, 0.3");
  assert.equal(merges[3]!.agreement, -1);
  assert.deepEqual(ordered(5, merges), [0, 1, 2, 3, 4]);
});

test("average linkage weighs every head alike", () => {
  const merges = linkage([[1, 0.9, 0.6, 0.5], [0.9, 1, 0.6, 0.5], [0.6, 0.6, 1, 0.2], [0.5, 0.5, 0.2, 1]]);
  assert.ok(Math.abs(merges[2]!.agreement - (0.5 + 0.5 + 0.2) / 3) < 1e-12);
});

test("groups are cut where they agree less", () => {
  const merges = linkage(AGREEMENT);
  assert.deepEqual(clusters(5, merges, 0.95), []);
  assert.deepEqual(clusters(5, merges, 0.85), [[0, 1]]);
  assert.deepEqual(clusters(5, merges, 0.5), [[0, 1], [2, 3]]);
  assert.deepEqual(clusters(5, merges, 0.2), [[0, 1, 2, 3]]);
  assert.deepEqual(clusters(1, linkage([[1]]), 0.5), []);
});

test("a row of the picture is a call of a module", () => {
  const head = (module: string, layer: number | null, kind: string, head: number, call = 0) => ({ module, layer, kind, head, call });
  const report = { heads: [head("e.0", 0, "encoder", 0), head("e.0", 0, "encoder", 1), head("d.0", 0, "cross", 0), head("d.0", 0, "cross", 0, 1)] } as Report;
  assert.deepEqual(linesOf(report).map(({ label, heads }) => [label, heads]),
    [["encoder layer 0", [0, 1]], ["cross layer 0", [2]], ["cross layer 0 · 1", [3]]]);
  assert.equal(nameOf(report, 1), "encoder 0.1");
  assert.equal(nameOf({ heads: [head("a", 3, "decoder", 5)] } as Report, 0), "3.5");
});
