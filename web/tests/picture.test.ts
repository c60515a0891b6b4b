import assert from "node:assert/strict";
import { test } from "node:test";
import type { Layout } from "../src/layout";
import { numbersOf, overlayOf, tint } from "../src/overlay";
import { boxOf, pictured, scaled, step, unitIn } from "../src/picturelayout";
import type { Frame } from "../src/picturelayout";
import type { Call, Doc, Picture, Tokens } from "../src/protocol";
import type { Session } from "../src/session";
import { initialState } from "../src/state";
import { axes, named, partOf } from "../src/units";
import { denseWeights } from "../src/weights";

const picture: Picture = { height: 30, width: 50, rows: 3, columns: 5, first: 2, png: "" };

/** Two tokens without a place, 15 parts, two more; and five words that read them. */
function document(first = 2, after = 2): Doc {
  const count = first + 15 + after;
  const place = (i: number) => (i < first || i >= first + 15 ? `[${i}]` : `${Math.floor((i - first) / 5) + 1},${((i - first) % 5) + 1}`);
  const own = (n: number) => Array.from({ length: n }, (_, i) => i);
  const source: Tokens = { text: own(count).map(place), word: own(count), special: own(count).map((i) => i < first || i >= first + 15) };
  const target: Tokens = { text: ["the", "re", "d", "cir", "cle"], word: [0, 1, 1, 2, 2], special: [false, false, false, false, false] };
  const call = (index: number, rows: "source" | "target"): Call => ({
    index, name: `call.${index}`, label: "", step: 0, kind: rows === "target" ? "cross" : "encoder", heads: 2, queries: rows === "target" ? 5 : count, keys: count,
    rows, columns: "source", offset: 0, causal: false, dim: 4, values: false, score: "dot",
  });
  return { id: "p", title: "", model: "", message: "", sequences: [{ source, target, picture: { ...picture, first } }], calls: [call(0, "target"), call(1, "source")], focus: null, notes: [], decoding: null, beside: [] };
}

const of = (doc: Doc, call: number, level: "token" | "word" = "token") => axes(doc, doc.calls[call]!, 0, level);

/** Letters of ten pixels, where there is no browser to measure them. */
function inBrowser<T>(work: () => T): T {
  const context = { font: "", measureText: (text: string) => ({ width: 10 * text.length }) };
  Object.assign(globalThis, { document: { createElement: () => ({ getContext: () => context }) } });
  try {
    return work();
  } finally {
    Reflect.deleteProperty(globalThis, "document");
  }
}

test("the axis of the source has the picture's parts, whichever level is shown; words have none", () => {
  const doc = document();
  for (const level of ["token", "word"] as const) {
    const { query, key } = of(doc, 0, level);
    assert.equal(query.grid, null);
    assert.equal(key.grid?.first, 2);
    assert.deepEqual([partOf(key, 1), partOf(key, 2), partOf(key, 16), partOf(key, 17)], [null, { row: 0, column: 0 }, { row: 2, column: 4 }, null]);
  }
  const both = of(doc, 1);
  assert.deepEqual([both.query.grid?.first, both.key.grid?.first], [2, 2]);
});

test("an axis that lacks some of the parts shows words", () => {
  const doc = document();
  doc.calls[1] = { ...doc.calls[1]!, queries: 1, offset: 18 }; // the last token alone reads
  assert.deepEqual([of(doc, 1).query.grid, of(doc, 1).key.grid?.first], [null, 2]);
  doc.calls[1] = { ...doc.calls[1]!, queries: 17, offset: 2 }; // all parts, counted from another token
  assert.deepEqual([of(doc, 1).query.grid, of(doc, 1).key.grid?.first], [null, 2]);
});

test("a part is called by its place, unless it has a name of its own", () => {
  const doc = document();
  assert.deepEqual([named(of(doc, 1).key, 8), named(of(doc, 1).key, 0)], ["row 2, column 2", "“[0]”"]);
  doc.sequences[0]!.source.text[8] = "the sun";
  assert.equal(named(of(doc, 1).key, 8), "“the sun”");
});

test("few pixels are enlarged by a whole number, many are fitted", () => {
  assert.deepEqual(scaled(64, 64, 600), { width: 512, height: 512 });
  assert.deepEqual(scaled(64, 64, 330), { width: 320, height: 320 });
  assert.deepEqual(scaled(2000, 1000, 500), { width: 500, height: 250 });
  assert.deepEqual(scaled(1000, 2000, 500), { width: 260, height: 520 });
  assert.ok(scaled(2048, 1, 500).height >= 1);
});

test("every part is found where it is drawn, and nothing beside the picture", () => {
  const frame: Frame = { picture, first: 2, side: "key", x: 40, y: 100, width: 333, height: 201 };
  for (let unit = 2; unit < 17; unit++) {
    const { x, y, width, height } = boxOf(frame, unit);
    for (const [dx, dy] of [[0.01, 0.01], [width - 0.01, height - 0.01]] as const) assert.equal(unitIn(frame, 40 + x + dx, 100 + y + dy), unit);
  }
  assert.deepEqual([unitIn(frame, 39, 150), unitIn(frame, 374, 150), unitIn(frame, 60, 99), unitIn(frame, 60, 302)], [null, null, null, null]);
});

test("arrow keys stay in the grid, and go over its upper and lower edge to the tokens without a place", () => {
  const { key } = of(document(), 1);
  const walk = (from: number, keys: string[], special = true) => keys.reduce((unit, one) => step(key, unit, one, special), from);
  assert.equal(walk(2, ["ArrowDown", "ArrowRight"]), 8);
  assert.equal(walk(6, ["ArrowRight"]), 6); // the end of a row
  assert.equal(walk(7, ["ArrowLeft"]), 7);
  assert.equal(walk(4, ["ArrowUp"]), 1);
  assert.equal(walk(1, ["ArrowLeft"]), 0);
  assert.equal(walk(1, ["ArrowDown"]), 2);
  assert.equal(walk(14, ["ArrowDown", "ArrowRight"]), 18);
  assert.equal(walk(17, ["ArrowUp"]), 16);
  assert.deepEqual([walk(8, ["Home"]), walk(8, ["End"])], [0, 18]);
  assert.deepEqual([walk(4, ["ArrowUp"], false), walk(14, ["ArrowDown"], false), walk(8, ["Home"], false), walk(8, ["End"], false)], [4, 14, 2, 16]);
});

test("words stand above the picture; tokens before its parts above it, those after below; parts are no words", () => {
  inBrowser(() => {
    const cross = pictured(of(document(), 0), true, 600);
    const { frame, query, key } = cross as Layout & { frame: Frame };
    assert.equal(frame.side, "key");
    assert.deepEqual([Array.from(key.shown), query.shown.length], [[0, 1, 17, 18], 5]);
    const bottom = (placed: typeof key, p: number) => placed.y[p]! + placed.h;
    assert.ok(bottom(query, 4) <= key.y[0]! && bottom(key, 1) <= frame.y && frame.y + frame.height <= key.y[2]! && bottom(key, 3) <= cross.height);
    assert.ok(frame.x >= 0 && frame.x + frame.width <= 600);
    assert.ok(key.place.slice(2, 17).every((p) => p === -1));
    const self = pictured(of(document(), 1), false, 600);
    assert.ok(self.query === self.key && self.frame?.side === "both" && self.key.shown.length === 0);
  });
});

test("many words stand beside the picture where there is room for both, else below it", () => {
  inBrowser(() => {
    const doc = document(0, 0);
    const many = Array.from({ length: 90 }, (_, i) => `word${i}`);
    doc.sequences[0]!.target = { text: many, word: many.map((_, i) => i), special: many.map(() => false) };
    doc.calls[0] = { ...doc.calls[0]!, queries: 90 };
    const wide = pictured(of(doc, 0), true, 900);
    assert.ok(Math.max(...wide.query.x.map((x, p) => x + wide.query.w[p]!)) <= wide.frame!.x && wide.frame!.y < 30);
    const narrow = pictured(of(doc, 0), true, 400);
    assert.ok(narrow.frame!.y < 30 && Math.min(...narrow.query.y) >= narrow.frame!.y + narrow.frame!.height);
    assert.ok(Math.max(...narrow.query.y) + narrow.query.h <= narrow.height);
  });
});

test("what lies over the picture is the mean of the heads that are shown", () => {
  const doc = document();
  const weights = new Float32Array(2 * 19);
  weights.set([0.6, 0.2], 4); // head 0: units 4 and 5
  weights[19 + 5] = 0.5;
  weights[19] = 0.5; // head 1: more on a token without a place
  const session = { bare: false, shown: { unit: 1, direction: "reads" }, weights: denseWeights({ heads: 2, length: 19, weights }), heads: [0, 1], sides: () => ({ to: of(doc, 0).key }) } as unknown as Session;
  const frame = { picture, first: 2 } as Frame;
  const both = overlayOf(session, frame)!;
  assert.deepEqual([both.strongest, both.weights.length], [3, 15]);
  assert.ok(Math.abs(both.peak - 0.35) < 1e-6);
  const one = overlayOf({ ...session, heads: [0] } as unknown as Session, frame)!;
  assert.deepEqual([one.strongest, Math.round(100 * one.peak)], [2, 60]);
  assert.equal(overlayOf({ ...session, bare: true } as unknown as Session, frame), null);
  assert.equal(overlayOf({ ...session, sides: () => ({ to: of(doc, 0).query }) } as unknown as Session, frame), null);
});

test("more weight is more colour, none is none", () => {
  for (const theme of ["light", "dark"] as const) {
    const strengths = [0, 0.01, 0.1, 0.4, 1].map((weight) => tint(weight, 1, theme)[3]);
    assert.equal(strengths[0], 0);
    assert.deepEqual(strengths, [...strengths].sort((a, b) => a - b));
    assert.deepEqual(tint(0.2, 0.2, theme), tint(1, 1, theme));
    assert.equal(tint(0.2, 0, theme)[3], 0);
  }
});

test("a page opens at the word asked last, else at what stands for the whole picture, else at its middle", () => {
  const doc = document();
  doc.calls = [{ ...doc.calls[1]!, index: 0 }];
  assert.equal(initialState(doc).cursor, 0);
  assert.equal(initialState({ ...doc, sequences: document(0, 2).sequences }).cursor, 7);
  const asked = document();
  asked.calls = doc.calls;
  asked.sequences[0]!.source.text[18] = "where";
  asked.sequences[0]!.source.special[18] = false;
  assert.equal(initialState(asked).cursor, 18);
});

test("numbers stand in the strongest parts, where there is room", () => {
  const weights = Float32Array.from({ length: 15 }, (_, part) => (part % 3 ? 0.001 : 0.02 * (part + 1)));
  const frame = { picture, first: 2, width: 250, height: 150 } as Frame;
  const numbers = numbersOf({ weights, peak: 0.26, strongest: 12 }, frame, "light");
  assert.deepEqual(numbers.map(({ text }) => text), ["0.26", "0.20", "0.14", "0.08", "0.02"]);
  assert.deepEqual([numbers[0]!.x, numbers[0]!.y, numbers[0]!.dark, numbers[4]!.dark], [125, 125, false, true]);
  assert.deepEqual(numbersOf({ weights, peak: 0.26, strongest: 12 }, { ...frame, height: 90 }, "light"), []);
});
