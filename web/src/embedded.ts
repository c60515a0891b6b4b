// A page without a server: every answer computed here, from the queries and keys inside the file.

import { Attend, GIVEN } from "./attend";
import { Parts } from "./blob";
import { Breath } from "./breath";
import { Listed } from "./listed";
import type {
  Doc, EmbeddedCall, Level, MapQuery, MapTile, Pair, PairQuery, Row, RowQuery, Sequence, Thumbnails, Tile, TileQuery, TopK, TopKQuery, Where,
} from "./protocol";
import { Pyramid } from "./pyramid";
import { logByte } from "./scale";
import { Cache } from "./source";
import type { Source } from "./source";
import { side, TILE } from "./tiling";
import { tokensOf, wordStarts } from "./units";
import { largest } from "./weights";

const THUMBNAIL = 32;
/** Weights under one tile from which on a pooled picture is shown where there is one. */
const MOST_EXACT = 2 ** 22;

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** What weights are asked of, row by row; NaN is a weight that the page does not hold. */
type Held = Attend | Listed;

/** A weight that was given as a number, and nothing else. */
function givenPair(weight: number, allowed: boolean): Pair {
  const nothing = { products: null, score: null, scale: null, scaled: null, bias: null, logsumexp: null, statistic: null, value: null, contribution: null, output: null, softcap: null, sink: null };
  return { ...nothing, query: [], key: [], allowed, weight: finite(weight), normalizer: GIVEN, statistic_name: "sum", score_name: GIVEN };
}

interface Units {
  rows: Int32Array;
  columns: Int32Array;
}

/** Weights of row unit a for column units from..to-1 into out[0 ..]: the mean over a's tokens of sums over each column unit.
    Of a unit some of whose weights are not here it is what the others add up to; NaN where none is. */
function unitRow(call: Held, units: Units, head: number, a: number, from: number, to: number, buffer: Float64Array, out: Float64Array): void {
  const { rows, columns } = units;
  const r0 = rows[a] as number;
  const r1 = rows[a + 1] as number;
  const c0 = columns[from] as number;
  const c1 = columns[to] as number;
  out.fill(NaN, 0, to - from);
  for (let i = r0; i < r1; i++) {
    call.weights(head, i, c0, c1, buffer);
    for (let u = from; u < to; u++) {
      let sum = out[u - from] as number;
      const end = (columns[u + 1] as number) - c0;
      for (let j = (columns[u] as number) - c0; j < end; j++) {
        const weight = buffer[j] as number;
        if (weight === weight) sum = (sum === sum ? sum : 0) + weight;
      }
      out[u - from] = sum;
    }
  }
  if (r1 - r0 > 1) for (let u = 0; u < to - from; u++) out[u] = (out[u] as number) / (r1 - r0);
}

/** Pools rows of a matrix into height x width pixels, one row at a time. */
class Pool {
  readonly values: Float64Array;
  private readonly counts: Float64Array;

  constructor(readonly height: number, readonly width: number, private readonly rows: number, private readonly columns: number, private readonly mean: boolean) {
    this.values = new Float64Array(height * width);
    this.counts = new Float64Array(height);
  }

  /** Pixels of n bins over `size` items that item `at` falls into: floor(p size / n) <= at < ceil((p + 1) size / n). */
  private static bins(at: number, size: number, n: number): [number, number] {
    const low = Math.floor((at * n) / size);
    const high = Math.ceil(((at + 1) * n) / size) - 1;
    return [low, high];
  }

  add(r: number, row: Float64Array): void {
    const { width, columns, values, mean } = this;
    const [low, high] = Pool.bins(r, this.rows, this.height);
    for (let x = 0; x < width; x++) {
      const c0 = Math.floor((x * columns) / width);
      const c1 = Math.ceil(((x + 1) * columns) / width);
      let pooled = 0;
      for (let c = c0; c < c1; c++) {
        const value = row[c] as number;
        if (mean) pooled += value;
        else if (value > pooled) pooled = value;
      }
      if (mean) pooled /= c1 - c0;
      for (let y = low; y <= high; y++) {
        const at = y * width + x;
        values[at] = mean ? (values[at] as number) + pooled : Math.max(values[at] as number, pooled);
      }
    }
    for (let y = low; y <= high; y++) this.counts[y] = (this.counts[y] as number) + 1;
  }

  result(): { peak: number; pixels: Uint8Array } {
    const { values, width } = this;
    if (this.mean) for (let at = 0; at < values.length; at++) values[at] = (values[at] as number) / ((this.counts[Math.floor(at / width)] as number) || 1);
    return inBytes(values);
  }
}

/** 255 = the largest. */
function inBytes(values: Float64Array): { peak: number; pixels: Uint8Array } {
  let peak = 0;
  for (const value of values) if (value > peak) peak = value;
  const pixels = new Uint8Array(values.length);
  if (peak) for (let at = 0; at < values.length; at++) pixels[at] = Math.round((255 * (values[at] as number)) / peak);
  return { peak, pixels };
}

export class EmbeddedSource implements Source {
  readonly remote = false;
  private readonly opened = new Map<string, Promise<Held>>();
  private readonly pictures = new Map<string, Promise<Pyramid | null>>();
  private readonly known = new Cache<Units>(8);
  private readonly kept = new Cache<Promise<Thumbnails>>(512);
  private readonly parts: Parts;

  constructor(private readonly doc: Doc, private readonly calls: EmbeddedCall[], parts: string[]) {
    this.parts = new Parts(parts);
  }

  document(): Promise<Doc> {
    return Promise.resolve(this.doc);
  }

  private embedded(call: number): EmbeddedCall {
    const embedded = this.calls[call];
    if (!embedded) throw new Error(`this page has no call ${call}`);
    return embedded;
  }

  private async held({ call, sequence }: Where): Promise<Held> {
    const name = `${call}/${sequence}`;
    let result = this.opened.get(name);
    if (!result) {
      const embedded = this.embedded(call);
      result = "top" in embedded ? Listed.open(embedded, this.parts, sequence) : Attend.open(embedded, this.parts, sequence);
      this.opened.set(name, result);
    }
    return result;
  }

  /** The pooled pictures of a call; null where it is short and they are drawn here. */
  private async pyramid({ call, sequence }: Where): Promise<Pyramid | null> {
    const name = `${call}/${sequence}`;
    let result = this.pictures.get(name);
    if (!result) {
      const { overview, lengths } = this.embedded(call);
      result = overview ? Pyramid.open(overview, this.parts, sequence, lengths[sequence] as [number, number]) : Promise.resolve(null);
      this.pictures.set(name, result);
    }
    return result;
  }

  private units({ call, sequence }: Where, level: Level): Units {
    const name = `${call}/${sequence}/${level}`;
    return this.known.get(name) ?? this.known.set(name, this.makeUnits(call, sequence, level));
  }

  private makeUnits(call: number, sequence: number, level: Level): Units {
    const [queries, keys] = this.embedded(call).lengths[sequence] as [number, number];
    if (level === "token") {
      const each = (length: number) => Int32Array.from({ length: length + 1 }, (_, i) => i);
      return { rows: each(queries), columns: each(keys) };
    }
    const { rows, columns, offset } = this.doc.calls[call] as Doc["calls"][number];
    const texts = this.doc.sequences[sequence] as Sequence;
    return {
      rows: wordStarts(tokensOf(texts, rows).word, offset, queries),
      columns: wordStarts(tokensOf(texts, columns).word, 0, keys),
    };
  }

  async row({ index, direction, level, ...where }: RowQuery, signal?: AbortSignal): Promise<Row> {
    const call = await this.held(where);
    const units = this.units(where, level);
    const buffer = new Float64Array(call.keys);
    const breath = new Breath(signal);
    const [rows, columns] = [units.rows.length - 1, units.columns.length - 1];
    const length = direction === "reads" ? columns : rows;
    if (index < 0 || index >= (direction === "reads" ? rows : columns)) throw new Error(`there is no ${level} ${index} here`);
    const weights = new Float32Array(call.heads * length);
    const out = new Float64Array(length);
    for (let head = 0; head < call.heads; head++) {
      if (direction === "reads") {
        unitRow(call, units, head, index, 0, columns, buffer, out);
        weights.set(out, head * length);
        continue;
      }
      for (let a = 0; a < rows; a++) {
        unitRow(call, units, head, a, index, index + 1, buffer, out);
        weights[head * length + a] = out[0] as number;
        if (a % 16 === 15) await breath.take();
      }
    }
    return { heads: call.heads, length, weights };
  }

  async topk({ k, ...which }: TopKQuery, signal?: AbortSignal): Promise<TopK> {
    const { heads, length, weights } = await this.row(which, signal);
    const call = await this.held(which);
    const sum = (values: Iterable<number>) => {
      let total = 0;
      for (const value of values) if (value === value) total += value;
      return total;
    };
    const { rows } = this.units(which, which.level);
    const result: TopK = { indices: [], weights: [], rest: [] };
    for (let head = 0; head < heads; head++) {
      const row = weights.subarray(head * length, (head + 1) * length);
      const kept = largest(row, k, () => true);
      result.indices.push(kept.map(([unit]) => unit));
      result.weights.push(kept.map(([, weight]) => weight));
      let others = Math.max(0, sum(row) - sum(kept.map(([, weight]) => weight)));
      if (call instanceof Listed && which.direction === "reads") {
        const [from, to] = [rows[which.index] as number, rows[which.index + 1] as number];
        for (let i = from; i < to; i++) others += call.rest(head, i) / (to - from);
      }
      result.rest.push(others);
    }
    return result;
  }

  async tile({ head, r0, r1, c0, c1, height, width, how, level, ...where }: TileQuery, signal?: AbortSignal): Promise<Tile> {
    const listed = "top" in this.embedded(where.call);
    const units = this.units(where, level);
    const [rows, columns] = [[units.rows[r0], units.rows[r1]], [units.columns[c0], units.columns[c1]]] as [[number, number], [number, number]];
    const picture = await this.pyramid(where);
    const few = (rows[1] - rows[0]) * (columns[1] - columns[0]) <= MOST_EXACT;
    const single = height === r1 - r0 && width === c1 - c0; // from afar what is listed of a row is too small to see
    if (picture && !(few && (!listed || (single && picture.zoom(how) > 0)))) {
      return { height, width, pooled: 2 ** picture.zoom(how), ...inBytes(picture.pooled(head, how, ...rows, ...columns, height, width)) };
    }
    const call = await this.held(where);
    const buffer = new Float64Array(call.keys);
    const out = new Float64Array(c1 - c0);
    const pool = new Pool(height, width, r1 - r0, c1 - c0, how === "mean");
    const breath = new Breath(signal);
    for (let r = r0; r < r1; r++) {
      unitRow(call, units, head, r, c0, c1, buffer, out);
      if (listed) for (let c = 0; c < out.length; c++) out[c] ||= 0; // what is not here is small
      pool.add(r - r0, out);
      await breath.take();
    }
    return { height, width, ...pool.result() };
  }

  thumbnails(where: Where): Promise<Thumbnails> {
    const name = `${where.call}/${where.sequence}`;
    return this.kept.get(name) ?? this.kept.set(name, this.makeThumbnails(where));
  }

  /** A tile of a head's map: from the pictures where these are fine enough or computing it would take seconds, else computed. */
  async map({ head, zoom, row, column, how, ...where }: MapQuery, signal?: AbortSignal): Promise<MapTile> {
    const embedded = this.embedded(where.call);
    const [queries, keys] = embedded.lengths[where.sequence] as [number, number];
    const picture = await this.pyramid(where);
    const span = side(zoom);
    const [top, left] = [row * span, column * span];
    const size = (length: number, from: number) => Math.max(0, Math.min(TILE, Math.ceil((length - from) / 2 ** zoom)));
    const [height, width] = [size(queries, top), size(keys, left)];
    const [bottom, right] = [top + height * 2 ** zoom, left + width * 2 ** zoom]; // the last pixels may reach beyond the text
    const few = height * width * 4 ** zoom <= MOST_EXACT;
    const exact = !("top" in embedded) && (!picture || (zoom < picture.zoom(how) && few));
    const listed = "top" in embedded && zoom === 0 && (picture as Pyramid).zoom(how) > 0;
    const weights = exact || listed
      ? await this.computed(await this.held(where), head, zoom, top, left, height, width, how, new Breath(signal))
      : (picture as Pyramid).pooled(head, how, top, bottom, left, right, height, width);
    return { height, width, exact: exact || zoom >= (picture as Pyramid).zoom(how), refined: 1, pixels: Uint8Array.from(weights, logByte) };
  }

  private async computed(call: Held, head: number, zoom: number, top: number, left: number, height: number, width: number, how: MapQuery["how"], breath: Breath): Promise<Float64Array> {
    const [bottom, right] = [Math.min(call.queries, top + height * 2 ** zoom), Math.min(call.keys, left + width * 2 ** zoom)];
    const cells = new Float64Array(height * width);
    const buffer = new Float64Array(call.keys);
    for (let i = top; i < bottom; i++) {
      call.weights(head, i, left, right, buffer);
      const at = ((i - top) >> zoom) * width;
      for (let j = 0; j < right - left; j++) {
        const cell = at + (j >> zoom);
        const weight = buffer[j] as number;
        if (how === "mean") cells[cell] = (cells[cell] as number) + (weight > 0 ? weight : 0);
        else if (weight > (cells[cell] as number)) cells[cell] = weight;
      }
      await breath.take();
    }
    if (how === "mean") {
      const count = (n: number, from: number, end: number) => Math.min(end - from, (n + 1) << zoom) - (n << zoom);
      for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) cells[y * width + x] = (cells[y * width + x] as number) / (count(y, top, bottom) * count(x, left, right));
    }
    return cells;
  }

  /** Thumbnails out of the pooled pictures, whose bytes are weights to some percent. */
  private pooledThumbnails(picture: Pyramid): Thumbnails {
    const { heads, queries, keys, entropy } = picture;
    const size = Math.max(1, Math.min(THUMBNAIL, Math.max(queries, keys)));
    const found = Array.from({ length: heads }, (_, head) => inBytes(picture.pooled(head, "max", 0, queries, 0, keys, size, size)));
    const pixels = new Uint8Array(heads * size * size);
    found.forEach((one, head) => pixels.set(one.pixels, head * size * size));
    return { heads, size, peak: found.map(({ peak }) => peak), entropy, pixels };
  }

  private async makeThumbnails(where: Where): Promise<Thumbnails> {
    const picture = await this.pyramid(where);
    if (picture) return this.pooledThumbnails(picture);
    const call = await this.held(where);
    const { heads, queries, keys } = call;
    const size = Math.max(1, Math.min(THUMBNAIL, Math.max(queries, keys)));
    const pixels = new Uint8Array(heads * size * size);
    const peak: number[] = [];
    const entropy: number[] = [];
    const row = new Float64Array(keys);
    const breath = new Breath();
    for (let head = 0; head < heads; head++) {
      const pool = new Pool(size, size, queries, keys, false);
      let sum = 0;
      for (let i = 0; i < queries; i++) {
        call.weights(head, i, 0, keys, row);
        for (const weight of row) if (weight > 0) sum -= weight * Math.log(weight);
        pool.add(i, row);
        await breath.take();
      }
      const { peak: highest, pixels: image } = pool.result();
      pixels.set(image, head * size * size);
      peak.push(highest);
      entropy.push(queries ? sum / queries : 0);
    }
    return { heads, size, peak, entropy, pixels };
  }

  /** null where queries and keys are not in this page. */
  async pair({ head, i, j, ...where }: PairQuery): Promise<Pair | null> {
    const call = await this.held(where);
    if (call instanceof Listed) return null;
    const { scale, softcap, name } = call.score;
    const { products, score, scaled } = call.compare(head, i, j);
    const { normalizer, statisticName: statistic_name } = call;
    const statistic = finite(call.statistic(head, i));
    const one = new Float64Array(1);
    call.weights(head, i, j, j + 1, one);
    const weight = one[0] as number;
    const value = call.value(head, j);
    const bias = call.biasOf(head, i, j);
    if (call.given) return givenPair(weight, call.allowed(head, i, j));
    return {
      query: call.query(head, i), key: call.key(head, j),
      products, scale, value, softcap, normalizer, statistic, statistic_name,
      score: finite(score),
      scaled: finite(scaled),
      weight: finite(weight),
      bias: finite(bias),
      allowed: call.allowed(head, i, j),
      logsumexp: statistic_name === "log-sum-exp" ? statistic : null,
      contribution: value && value.map((x) => x * weight),
      output: call.output(head, i),
      score_name: name,
      sink: call.sinkOf(head),
    };
  }
}
