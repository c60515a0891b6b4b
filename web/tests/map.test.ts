import assert from "node:assert/strict";
import { test } from "node:test";
import { Camera } from "../src/camera";
import { byteWeight, logByte } from "../src/scale";
import { Tiles } from "../src/tiles";
import { above, below, lastZoom, side, tilesIn, zoomFor } from "../src/tiling";
import type { MapQuery, MapTile } from "../src/protocol";

test("a byte stands for a weight on one scale, one is 255, a millionth 1", () => {
  assert.deepEqual([1, 1e-6, 1e-9, 0, NaN, 2].map(logByte), [255, 1, 1, 0, 0, 255]);
  for (const weight of [0.9, 0.03, 4e-5]) assert.ok(Math.abs(Math.log10(byteWeight(logByte(weight)) / weight)) < 0.013);
});

test("the zoom wastes no pixel, and is never finer than a token or coarser than all in one tile", () => {
  assert.equal(lastZoom(32768, 32768), 7);
  assert.equal(lastZoom(131072, 131073), 10);
  assert.equal(lastZoom(1, 1), 0);
  assert.equal(zoomFor(500 / 32768, 7), 6);
  assert.equal(zoomFor(14, 7), 0);
  assert.equal(zoomFor(1e-9, 7), 7);
  for (const px of [0.004, 0.3, 0.75]) {
    const shown = px * 2 ** zoomFor(px, 20);
    assert.ok(shown >= 0.75 && shown < 1.5, `${px}: ${shown}`);
  }
});

test("the tiles of a box cover it, nearest to its middle first, and never leave the map", () => {
  const box = { r0: 700, r1: 1500, c0: 0, c1: 513 };
  const spots = tilesIn(box, 0, 1400, 513);
  assert.deepEqual(new Set(spots.map(({ row }) => row)), new Set([2, 3, 4, 5]));
  assert.deepEqual(new Set(spots.map(({ column }) => column)), new Set([0, 1, 2]));
  assert.deepEqual([spots[0]!.row === 3 || spots[0]!.row === 4, spots[0]!.column], [true, 1]);
  assert.deepEqual(tilesIn({ r0: 0, r1: 10, c0: 0, c1: 10 }, 2, 10, 10), [{ zoom: 2, row: 0, column: 0 }]);
});

test("a coarser tile holds a finer one", () => {
  const spot = { zoom: 1, row: 5, column: 2 };
  assert.deepEqual(above(spot, 2), { zoom: 3, row: 1, column: 0 });
  for (const finer of below(spot)) assert.deepEqual(above(finer, 1), spot);
  assert.equal(below(spot).length, 4);
  assert.deepEqual(below({ zoom: 0, row: 1, column: 1 }), []);
  assert.equal(side(3), 2048);
});

const never = (error: unknown) => assert.fail(String(error));
const WHICH = { call: 0, sequence: 0, head: 0, how: "max" as const };
const spot = (row: number, zoom = 0) => ({ zoom, row, column: 0 });
const turn = () => new Promise((resolve) => setTimeout(resolve, 5));

interface Asked {
  query: MapQuery;
  signal: AbortSignal;
  answer(tile: Partial<MapTile>): void;
  fail(error: Error): void;
}

/** A source that answers when the test says so. */
function slow(): { asked: Asked[]; map: (query: MapQuery, signal?: AbortSignal) => Promise<MapTile> } {
  const asked: Asked[] = [];
  const map = (query: MapQuery, signal?: AbortSignal) => new Promise<MapTile>((resolve, reject) => {
    signal!.addEventListener("abort", () => reject(Object.assign(new Error("aborted"), { name: "AbortError" })));
    asked.push({ query, signal: signal!, answer: (tile) => resolve({ height: 1, width: 1, exact: true, refined: 1, pixels: new Uint8Array(1), ...tile }), fail: reject });
  });
  return { asked, map };
}

test("tiles are asked for a few at a time, the most wanted first, and not again once exact", async () => {
  const source = slow();
  let changes = 0;
  const tiles = new Tiles(source, () => changes++, never, 0);
  tiles.show(WHICH, [3, 1, 4, 0, 5, 9].map((row) => spot(row)));
  assert.deepEqual(source.asked.map(({ query }) => query.row), [3], "something soon");
  source.asked[0]!.answer({});
  await turn();
  assert.deepEqual(source.asked.map(({ query }) => query.row), [3, 1, 4, 0, 5]);
  source.asked[1]!.answer({});
  await turn();
  assert.deepEqual([changes, source.asked.length, source.asked[5]!.query.row], [2, 6, 9]);
  assert.ok(tiles.get(spot(1)) && !tiles.get(spot(4)));
  tiles.close();
  assert.ok(source.asked[2]!.signal.aborted);
});

test("what is out of sight is no longer asked for, and what is rough is asked for until it is exact", async () => {
  const source = slow();
  const tiles = new Tiles(source, () => undefined, never, 0);
  tiles.show(WHICH, [spot(0), spot(1)]);
  tiles.show(WHICH, [spot(1), spot(2)]);
  assert.deepEqual(source.asked.map(({ signal }) => signal.aborted), [true, false]);
  source.asked[1]!.answer({ exact: false, refined: 0.25 });
  await turn();
  assert.equal(tiles.refined, 0.25);
  assert.deepEqual(source.asked.slice(2).map(({ query }) => query.row), [1, 2], "asked again, and now the rest");
  const before = tiles.get(spot(1))!.version;
  for (const asked of source.asked.slice(2)) asked.answer({ exact: true, refined: 1 });
  await turn();
  assert.ok(tiles.get(spot(1))!.version > before);
  const count = source.asked.length;
  await turn();
  assert.equal(source.asked.length, count);
  assert.equal(tiles.pending, 0);
});

test("another head has tiles of its own, and a late answer of the first is not shown as its", async () => {
  const source = slow();
  const tiles = new Tiles(source, () => undefined, never, 0);
  tiles.show(WHICH, [spot(0)]);
  source.asked[0]!.answer({ refined: 1 });
  await turn();
  tiles.show({ ...WHICH, head: 1 }, [spot(0)]);
  assert.deepEqual([tiles.get(spot(0)), tiles.refined], [undefined, null]);
  tiles.show(WHICH, [spot(0)]);
  assert.ok(tiles.get(spot(0)));
});

test("a tile that failed is told once and not asked for again", async () => {
  const source = slow();
  const told: unknown[] = [];
  const tiles = new Tiles(source, () => undefined, (error) => told.push((error as Error).message), 0);
  tiles.show(WHICH, [spot(0)]);
  source.asked[0]!.fail(new Error("the recording was changed"));
  await turn();
  tiles.show(WHICH, [spot(0)]);
  assert.deepEqual([told, source.asked.length], [["the recording was changed"], 1]);
});

test("a map is fitted, zoomed where one points, and never left", () => {
  const camera = new Camera();
  camera.fit(32768, 32768, 600, 640);
  assert.ok(camera.whole);
  assert.deepEqual([camera.box.r0, camera.box.c0, Math.round(camera.box.r1), Math.round(camera.box.c1)], [0, 0, 32768, 32768]);
  const before = camera.cellAt({ x: 300, y: 300 })!;
  for (let n = 0; n < 8; n++) camera.zoom(1.5, 300, 300);
  const after = camera.cellAt({ x: 300, y: 300 })!;
  assert.ok(Math.abs(after.i - before.i) <= 70 && Math.abs(after.j - before.j) <= 70, "a pixel of the overview has 64 tokens");
  camera.pan(1e9, 1e9);
  assert.deepEqual([camera.box.r0, camera.box.c0], [0, 0]);
  camera.pan(-1e9, -1e9);
  assert.ok(Math.abs(camera.box.r1 - 32768) < 1e-6 && Math.abs(camera.box.c1 - 32768) < 1e-6);
  camera.zoom(1e-9, 0, 0);
  assert.ok(camera.whole);
});

test("a place is found again in a window of another size", () => {
  const [one, other] = [new Camera(), new Camera()];
  one.fit(131072, 131072, 700, 640);
  one.go({ row: 70000, column: 31000, zoom: -1 });
  other.fit(131072, 131072, 420, 640);
  other.go(one.here);
  assert.ok(Math.abs(other.here.row - 70000) < 1 && Math.abs(other.here.column - 31000) < 1);
  assert.equal(other.here.zoom, one.here.zoom);
  other.go(null);
  assert.ok(other.whole);
});

test("a map of one query can be looked at, too", () => {
  const camera = new Camera();
  camera.fit(1, 5000, 600, 640);
  assert.ok(camera.whole && camera.view.px > 0);
  assert.deepEqual(camera.cellAt({ x: camera.view.left + 1, y: camera.view.top + 0.01 }), { i: 0, j: Math.floor(1 / camera.view.px) });
});
