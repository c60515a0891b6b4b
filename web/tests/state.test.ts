import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase } from "./dense";
import { hashDocument, initialState, readHash, writeHash } from "../src/state";

const { doc } = makeCase({});

test("a view survives the way through the address", () => {
  const state = { ...initialState(doc), sequence: 1, head: 3, all: true, direction: "read_by" as const, level: "word" as const, special: false, layout: "text" as const, cursor: 2, other: 1, locked: true };
  assert.deepEqual(readHash(`#${writeHash(doc, state)}`, doc, initialState(doc)), state);
  assert.equal(hashDocument(`#${writeHash(doc, state)}`), "case");
});

test("an address of another document, or of nonsense, changes nothing that does not fit", () => {
  const state = initialState(doc);
  assert.deepEqual(readHash("#doc=other&head=3", doc, state), state);
  assert.deepEqual(readHash("#doc=case&call=99&head=77&sequence=-1&word=x&layout=spiral", doc, state), state);
});

test("the focus of a document is where the page starts, locked", () => {
  const focus = { sequence: 0, call: 0, head: null, token: 4, direction: "reads" as const, level: "word" as const };
  const state = initialState({ ...doc, focus });
  assert.deepEqual([state.cursor, state.locked, state.all, state.level], [4, true, true, "word"]);
});

test("without a focus a word in sight is chosen, not locked: the last where each sees what came before, else the middle", () => {
  const ordinary = doc.sequences[0]!.target!.special.flatMap((special, i) => (special ? [] : [i]));
  const start = initialState(doc);
  assert.deepEqual([start.cursor, start.locked], [ordinary[ordinary.length >> 1], false]);
  const causal = { ...doc, calls: [{ ...doc.calls[0]!, causal: true }] };
  assert.equal(initialState(causal).cursor, ordinary.at(-1));
  const silent = { text: doc.sequences[0]!.target!.text.map(() => "—") };
  const sequences = [{ ...doc.sequences[0]!, target: { ...doc.sequences[0]!.target!, ...silent } }];
  assert.equal(initialState({ ...doc, sequences }).cursor, null);
});

test("a step survives the way through the address, where there is one", () => {
  const steps = doc.sequences.map(() => [0, 1, 2].map((token) => ({ token, alternatives: [{ text: "", probability: 1 }], chosen: 0 })));
  const decoded = { ...doc, decoding: { calls: [0], steps } };
  const state = { ...initialState(decoded), step: 2, cursor: 2, locked: true };
  assert.deepEqual(readHash(`#${writeHash(decoded, state)}`, decoded, initialState(decoded)), state);
  assert.equal(readHash("#doc=case&step=3", decoded, state).step, null);
  assert.equal(readHash("#doc=case&step=2", doc, state).step, null);
});

test("a focus without a word says where to look, and leaves the reader free", () => {
  const focus = { sequence: 0, call: 0, head: 2, token: null, direction: "reads" as const, level: "word" as const };
  const state = initialState({ ...doc, focus });
  assert.deepEqual([state.head, state.level, state.locked, state.cursor === null], [2, "word", false, false]);
  const before = { doc: { ...doc, focus }, state: { ...state, special: false, level: "token" as const } };
  assert.deepEqual([initialState({ ...doc, focus }, before).special, initialState({ ...doc, focus }, before).level], [false, "token"]);
});

test("two texts are first seen aligned", () => {
  const [cross] = doc.calls;
  const calls = [{ ...cross!, kind: "encoder" as const, rows: "source" as const }, { ...cross!, index: 1 }];
  assert.equal(initialState({ ...doc, calls }).call, 1);
});
