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
