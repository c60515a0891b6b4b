import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase } from "./dense";
import { EmbeddedSource } from "../src/embedded";
import { passages } from "../src/passages";
import type { Row, RowQuery, TopKQuery } from "../src/protocol";
import { Finder, nextHit } from "../src/search";
import { Session } from "../src/session";
import { initialState, readHash, writeHash } from "../src/state";

test("weights that stand together are one passage, the heaviest first", () => {
  const found = passages([[40, 0.1], [7, 0.2], [9, 0.05], [41, 0.3], [100, 0.3], [12, 0.1]], 10);
  assert.deepEqual(found.map(({ first, last, best }) => [first, last, best]), [[40, 41, 41], [7, 12, 7], [100, 100, 100]]);
  assert.ok(Math.abs(found[0]!.weight - 0.4) < 1e-12);
  assert.deepEqual([found[0]!.peak, found[1]!.weights.get(9), found[1]!.weights.has(8)], [0.3, 0.05, false]);
});

test("weights that are next to nothing neither make nor stretch a passage, and there are at most so many", () => {
  const found = passages([[0, 1], [2, 0.001], [50, 0.009], [60, 0.02], [80, NaN], [90, 0]], 10);
  assert.deepEqual(found.map(({ first, last }) => [first, last]), [[0, 0], [60, 60]]);
  assert.equal(passages([[0, 1], [10, 1], [20, 1]], 2).length, 2);
  assert.deepEqual(passages([], 5), []);
});

const TEXT = ["[BOS]", "The", "tran", "sla", "tion", ",", "they", "say", ":", "“", "the", "trans", "lation", "”", "is", "İs", "."];
const WORD = [0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 13];
const finder = new Finder({ text: TEXT, word: WORD, special: TEXT.map((text) => text === "[BOS]") });

test("a search goes across sub-words, words, and upper and lower case", () => {
  const places = (what: string) => finder.find(what).map(({ first, last }) => [first, last]);
  assert.deepEqual(places("translation"), [[2, 4], [11, 12]]);
  assert.deepEqual(places("THE  translation"), [[1, 4], [10, 12]]);
  assert.deepEqual(places("slat"), [[3, 4], [11, 12]]);
  assert.deepEqual(places("translation , they"), [[2, 6]]);
  assert.deepEqual(places("say: “the"), [[7, 10]]);
  assert.deepEqual(places("İs."), [[15, 16]]);
  assert.deepEqual(places("theysay"), []);
  assert.deepEqual(places("BOS"), []);
  assert.deepEqual(places("  "), []);
});

test("spaces that tokens bring with them count as spaces", () => {
  const spaced = new Finder({ text: ["It", " was", " so", "lo", "ng"], word: [0, 1, 2, 2, 2], special: Array<boolean>(5).fill(false) });
  assert.deepEqual(spaced.find("was solong"), [{ first: 1, last: 4 }]);
});

test("stepping begins at the chosen word", () => {
  const hits = finder.find("the");
  assert.deepEqual([0, 2, 10, 16].map((token) => nextHit(hits, token)), [0, 1, 2, 0]);
});

function open(): { doc: ReturnType<typeof makeCase>["doc"]; session: Session } {
  const { doc, calls, blob } = makeCase({});
  return { doc, session: new Session(new EmbeddedSource(doc, calls, blob), doc, initialState(doc)) };
}

test("an address holds the place of the map, its pooling and the search", () => {
  const { doc, session } = open();
  Object.assign(session.state, { place: { row: 1234.6, column: 99, zoom: -3.456 }, how: "mean", find: "a & b=ü" });
  const state = readHash(`#${writeHash(doc, session.state)}`, doc, initialState(doc));
  assert.deepEqual(state.place, { row: 1235, column: 99, zoom: -3.46 });
  assert.deepEqual([state.how, state.find], ["mean", "a & b=ü"]);
  const plain = writeHash(doc, initialState(doc));
  for (const name of ["map=", "how=", "find="]) assert.ok(!plain.includes(name));
});

test("places that are none are left out of an address", () => {
  const { doc } = open();
  for (const map of ["1,2", "1,2,x", "-1,2,0", "1,2,999", "1,2,3,4", "1e9,2,3"]) assert.equal(readHash(`#doc=${doc.id}&map=${map}`, doc, initialState(doc)).place, null, map);
});

/** A text of 9,000 keys, of which head h reads most at key 100 h. */
function long(oneHead: boolean, refined = [1]): { session: Session; asked: (RowQuery | TopKQuery)[] } {
  const { doc, calls, blob } = makeCase({});
  const asked: (RowQuery | TopKQuery)[] = [];
  const count = 9000;
  const words = { text: Array.from({ length: count }, (_, i) => `t${i}`), word: Array.from({ length: count }, (_, i) => i), special: Array<boolean>(count).fill(false) };
  const call = { ...doc.calls[0]!, queries: count, keys: count, offset: 0, rows: "source" as const, columns: "source" as const, kind: "decoder" as const };
  const source = new EmbeddedSource(doc, calls, blob);
  const session = new Session(Object.assign(source, {
    oneHead,
    topk: (query: TopKQuery) => {
      asked.push(query);
      const heads = query.head === undefined ? [...Array(call.heads).keys()] : [query.head];
      return Promise.resolve({ indices: heads.map((head) => [100 * head, 5]), weights: heads.map(() => [0.5, 0.25]), rest: heads.map((head) => head / 100), refined: refined[Math.min(asked.length, refined.length) - 1] });
    },
    row: (): Promise<Row> => Promise.reject(new Error("too long for a row")),
    pair: () => new Promise<never>(() => undefined),
  }), { ...doc, sequences: [{ source: words, target: null }], calls: [call] }, initialState(doc));
  return { session, asked };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 10));

test("of a long text only the shown head is asked about, where the source can tell", async () => {
  const { session, asked } = long(true);
  session.set({ cursor: 4, locked: true, head: 3 });
  await settled();
  assert.equal(asked.at(-1)!.head, 3);
  assert.deepEqual(session.weights!.top(3, 5), [[300, 0.5], [5, 0.25]]);
  assert.deepEqual([session.weights!.at(3, 5), session.weights!.at(0, 5), session.weights!.rest(3)], [0.25, NaN, 0.03]);
  session.set({ head: 2 });
  await settled();
  assert.deepEqual([asked.at(-1)!.head, session.weights!.top(2, 1)], [2, [[200, 0.5]]]);
  session.set({ all: true });
  await settled();
  assert.equal(asked.at(-1)!.head, undefined);
  assert.deepEqual(session.weights!.top(4, 1), [[400, 0.5]]);
});

test("a source that cannot tell heads apart is never asked for one", async () => {
  const { session, asked } = long(false);
  session.set({ cursor: 4, locked: true, head: 3 });
  await settled();
  assert.ok(asked.length && asked.every((query) => !("head" in query)));
  assert.deepEqual([session.weights!.top(3, 1), session.weights!.rest(3)], [[[300, 0.5]], 0.03]);
});

test("what is not known whole is asked for again until it is", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, asked } = long(true, [0.5, 0.75, 1]);
  const turns = async () => { for (let n = 0; n < 20; n++) await Promise.resolve(); };
  session.set({ cursor: 4, locked: true, direction: "read_by" });
  const seen: number[] = [];
  for (let n = 0; n < 4; n++) {
    await turns();
    seen.push(session.weights!.refined);
    context.mock.timers.tick(2000);
  }
  assert.deepEqual([seen, asked.length], [[0.5, 0.75, 1, 1], 3]);
});
