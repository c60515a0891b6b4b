import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase } from "./dense";
import { EmbeddedSource } from "../src/embedded";
import { Session } from "../src/session";
import { initialState } from "../src/state";

function session(options = {}): Session {
  const { doc, calls, blob } = makeCase(options);
  return new Session(new EmbeddedSource(doc, calls, blob), doc, initialState(doc));
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

test("pointing shows a word, locking keeps it, Escape's state lets it go", async () => {
  const one = session();
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

test("the last of many quick moves wins", async () => {
  const one = session();
  for (const unit of [0, 1, 2, 3, 4]) one.point({ unit, direction: "reads" });
  await settled();
  assert.equal(one.shown?.unit, 4);
});

test("a word keeps its place when the level changes", () => {
  const one = session();
  one.set({ cursor: 4, locked: true }); // words 0 0 1 2 2 2 3 ...
  one.set({ level: "word" });
  assert.equal(one.state.cursor, 2);
  one.set({ level: "token" });
  assert.equal(one.state.cursor, 3);
});

test("another direction swaps the two words of a cross attention", () => {
  const one = session();
  one.set({ cursor: 4, other: 9, locked: true });
  one.set({ direction: "read_by" });
  assert.deepEqual([one.state.cursor, one.state.other], [9, 4]);
});

test("special tokens that are switched off cannot stay selected", () => {
  const one = session();
  one.set({ cursor: 0, locked: true });
  one.set({ special: false });
  assert.deepEqual([one.state.cursor, one.state.locked], [null, false]);
});

test("errors are told, not thrown", async () => {
  const one = session();
  const told: string[] = [];
  one.on("error", (message) => told.push(message));
  one.source.row = () => Promise.reject(new Error("the server is busy"));
  one.point({ unit: 1, direction: "reads" });
  await settled();
  assert.deepEqual(told, ["the server is busy"]);
});
