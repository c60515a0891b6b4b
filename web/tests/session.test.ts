import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase } from "./dense";
import { EmbeddedSource } from "../src/embedded";
import type { Doc, EmbeddedCall } from "../src/protocol";
import { Session } from "../src/session";
import { initialState } from "../src/state";

/** A session whose source has read its numbers. */
async function opened(doc: Doc, calls: EmbeddedCall[], parts: string[]): Promise<Session> {
  const source = new EmbeddedSource(doc, calls, parts);
  await source.pair({ call: 0, sequence: 0, head: 0, i: 0, j: 0 });
  return new Session(source, doc, initialState(doc));
}

function session(options = {}): Promise<Session> {
  const { doc, calls, blob } = makeCase(options);
  return opened(doc, calls, blob);
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

test("pointing shows a word, locking keeps it, Escape's state lets it go", async () => {
  const one = await session();
  one.point({ unit: 3, direction: "reads" });
  await settled();
  assert.deepEqual(one.shown, { unit: 3, direction: "reads" });
  one.set({ cursor: 3, locked: true });
  one.point({ unit: 5, direction: "reads" });
  await settled();
  assert.equal(one.active?.unit, 3);
  assert.ok(one.pair !== null && one.pairAt?.i === 3);
  one.set({ locked: false, cursor: null });
  one.point(null);
  await settled();
  assert.deepEqual([one.active, one.weights, one.pair], [null, null, null]);
});

test("a pair is of the head that is shown, or said not to be", async () => {
  const one = await session();
  one.set({ cursor: 3, locked: true });
  await settled();
  assert.equal(one.paired, true);
  one.set({ head: 2 });
  assert.equal(one.paired, false);
  await settled();
  assert.deepEqual([one.paired, one.pairAt?.head], [true, 2]);
});

test("the last of many quick moves wins", async () => {
  const one = await session();
  for (const unit of [0, 1, 2, 3, 4]) one.point({ unit, direction: "reads" });
  await settled();
  assert.equal(one.shown?.unit, 4);
});

test("a word keeps its place when the level changes", async () => {
  const one = await session();
  one.set({ cursor: 4, locked: true }); // words 0 0 1 2 2 2 3 ...
  one.set({ level: "word" });
  assert.equal(one.state.cursor, 2);
  one.set({ level: "token" });
  assert.equal(one.state.cursor, 3);
});

test("another direction swaps the two words of a cross attention", async () => {
  const one = await session();
  one.set({ cursor: 4, other: 9, locked: true });
  one.set({ direction: "read_by" });
  assert.deepEqual([one.state.cursor, one.state.other], [9, 4]);
});

test("special tokens that are switched off cannot stay selected", async () => {
  const one = await session();
  one.set({ cursor: 0, locked: true });
  one.set({ special: false });
  assert.deepEqual([one.state.cursor, one.state.locked], [null, false]);
});

/** Words 0 0 | 1 | 2 2 2 | 3 ... of the target, of which the first token is special, were written one by one. */
function decoded(): Promise<Session> {
  const { doc, calls, blob } = makeCase({});
  const steps = doc.sequences.map(({ target }) => target!.text.map((text, token) => ({ token, alternatives: [{ text, probability: 0.5 }], chosen: 0 })));
  const encoder = { ...doc.calls[0]!, index: 1, kind: "encoder" as const };
  const whole = { ...doc, calls: [doc.calls[0]!, encoder], decoding: { calls: [0], steps } };
  return opened(whole, [calls[0]!, calls[0]!], blob);
}

test("a step shows what is written so far, and the weights of its own token", async () => {
  const one = await decoded();
  one.set({ level: "word" });
  one.set({ step: 4 }); // the second of three tokens of word 2
  await settled();
  const { query } = one.axes;
  assert.deepEqual([one.state.cursor, one.state.locked, one.state.direction], [2, true, "reads"]);
  assert.deepEqual([0, 1, 2, 3].map((unit) => one.textOf(query, unit)), ["w0.0w0.1", "w1.2", "w2.3w2.4", ""]);
  const row = await one.source.row({ call: 0, sequence: 0, index: 4, direction: "reads", level: "token" });
  const first = one.axes.key.starts[1] as number;
  assert.ok(Math.abs(one.weights!.at(2, 0) - row.weights.subarray(2 * row.length, 2 * row.length + first).reduce((a, b) => a + b)) < 1e-6);
  assert.equal(one.pairAt?.i, 4);
});

test("steps are walked within their ends, and special ones only while these are shown", async () => {
  const one = await decoded();
  const last = one.steps.length - 1;
  for (const [by, expected] of [[-1, last], [1, last], [-99, 0], [-1, 0], [1, 1]]) {
    one.walk(by!);
    assert.equal(one.state.step, expected);
  }
  one.set({ step: 0 });
  one.set({ special: false });
  assert.equal(one.state.step, 1);
  one.walk(-1);
  assert.equal(one.state.step, 1);
});

test("a word that is chosen is the step after which it stands there whole", async () => {
  const one = await decoded();
  one.set({ level: "word" });
  one.set({ step: 1 });
  one.set({ cursor: 2, direction: "reads", locked: true });
  assert.equal(one.state.step, 5);
  one.set({ level: "token" });
  assert.deepEqual([one.state.step, one.state.cursor], [5, 5]);
});

test("whoever looks the other way, elsewhere or nowhere leaves the steps; a step begins where they were made", async () => {
  for (const change of [{ direction: "read_by" as const }, { call: 1 }, { cursor: null, locked: false }, { sequence: 1, cursor: null, locked: false }]) {
    const one = await decoded();
    one.set({ step: 3 });
    one.set(change);
    assert.equal(one.state.step, null, JSON.stringify(change));
  }
  const one = await decoded();
  one.set({ call: 1, direction: "read_by" });
  one.walk(1);
  assert.deepEqual([one.state.call, one.state.direction, one.state.step], [0, "reads", 0]);
});

test("errors are told, not thrown", async () => {
  const one = await session();
  const told: string[] = [];
  one.on("error", (message) => told.push(message));
  one.source.row = () => Promise.reject(new Error("the server is busy"));
  one.point({ unit: 1, direction: "reads" });
  await settled();
  assert.deepEqual(told, ["the server is busy"]);
});
