// A page without a server: every answer computed here, from the queries and keys inside the file.

import { Attend, GIVEN } from "./attend";
import { decodeBase64 } from "./blob";
import type {
  Doc, EmbeddedCall, Level, MapQuery, MapTile, Pair, PairQuery, Row, RowQuery, Sequence, Thumbnails, Tile, TileQuery, TopK, TopKQuery, Where,
} from "./protocol";
import { mapTile } from "./maptile";
import { abortError, Cache } from "./source";
import type { Source } from "./source";
import { tokensOf, wordStarts } from "./units";
import { largest } from "./weights";

const SLICE_MS = 10;
const THUMBNAIL = 32;

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** Gives the page its turn whenever a computation has run for a while. */
class Breath {
  private since = performance.now();

  constructor(private readonly signal?: AbortSignal) {}

  async take(): Promise<void> {
    if (performance.now() - this.since < SLICE_MS) return;
    await new Promise((resolve) => setTimeout(resolve));
    if (this.signal?.aborted) throw abortError();
    this.since = performance.now();
  }
}

/** A weight that was given as a number, and nothing else. */
function givenPair(weight: number, allowed: boolean): Pair {
  const nothing = { products: null, score: null, scale: null, scaled: null, bias: null, logsumexp: null, statistic: null, value: null, contribution: null, output: null, softcap: null, sink: null };
  return { ...nothing, query: [], key: [], allowed, weight: finite(weight), normalizer: GIVEN, statistic_name: "sum", score_name: GIVEN };
}

interface Units {
  rows: Int32Array;
  columns: Int32Array;
}

/** Weights of row unit a for column units from..to-1 into out[0 ..]: the mean over a's tokens of sums over each column unit. */
function unitRow(call: Attend, units: Units, head: number, a: number, from: number, to: number, buffer: Float64Array, out: Float64Array): void {
  const { rows, columns } = units;
  const r0 = rows[a] as number;
  const r1 = rows[a + 1] as number;
  const c0 = columns[from] as number;
  const c1 = columns[to] as number;
  out.fill(0, 0, to - from);
  for (let i = r0; i < r1; i++) {
    call.weights(head, i, c0, c1, buffer);
    for (let u = from; u < to; u++) {
      let sum = 0;
      const end = (columns[u + 1] as number) - c0;
      for (let j = (columns[u] as number) - c0; j < end; j++) sum += buffer[j] as number;
      out[u - from] = (out[u - from] as number) + sum;
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
    let peak = 0;
    for (const value of values) if (value > peak) peak = value;
    const pixels = new Uint8Array(values.length);
    if (peak) for (let at = 0; at < values.length; at++) pixels[at] = Math.round((255 * (values[at] as number)) / peak);
    return { peak, pixels };
  }
}

export class EmbeddedSource implements Source {
  readonly remote = false;
  private readonly blob: ArrayBuffer;
  private readonly attends = new Map<string, Attend>();
  private readonly kept = new Cache<Promise<Thumbnails>>(512);

  constructor(private readonly doc: Doc, private readonly calls: EmbeddedCall[], blob: string | ArrayBuffer) {
    this.blob = typeof blob === "string" ? decodeBase64(blob) : blob;
  }

  document(): Promise<Doc> {
    return Promise.resolve(this.doc);
  }

  private attend({ call, sequence }: Where): Attend {
    const name = `${call}/${sequence}`;
    let result = this.attends.get(name);
    if (!result) {
      const embedded = this.calls[call];
      if (!embedded) throw new Error(`this page has no call ${call}`);
      result = new Attend(embedded, this.blob, sequence);
      this.attends.set(name, result);
    }
    return result;
  }

  private units({ call, sequence }: Where, level: Level): Units {
    const { queries, keys } = this.attend({ call, sequence });
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
    const call = this.attend(where);
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
    const result: TopK = { indices: [], weights: [], rest: [] };
    for (let head = 0; head < heads; head++) {
      const row = weights.subarray(head * length, (head + 1) * length);
      const kept = largest(row, k, () => true);
      result.indices.push(kept.map(([unit]) => unit));
      result.weights.push(kept.map(([, weight]) => weight));
      result.rest.push(Math.max(0, row.reduce((a, b) => a + b, 0) - kept.reduce((a, [, b]) => a + b, 0)));
    }
    return result;
  }

  async tile({ head, r0, r1, c0, c1, height, width, how, level, ...where }: TileQuery, signal?: AbortSignal): Promise<Tile> {
    const call = this.attend(where);
    const units = this.units(where, level);
    const buffer = new Float64Array(call.keys);
    const out = new Float64Array(c1 - c0);
    const pool = new Pool(height, width, r1 - r0, c1 - c0, how === "mean");
    const breath = new Breath(signal);
    for (let r = r0; r < r1; r++) {
      unitRow(call, units, head, r, c0, c1, buffer, out);
      pool.add(r - r0, out);
      await breath.take();
    }
    return { height, width, ...pool.result() };
  }

  map(query: MapQuery, signal?: AbortSignal): Promise<MapTile> {
    const breath = new Breath(signal);
    return mapTile(this.attend(query), query, () => breath.take());
  }

  thumbnails(where: Where): Promise<Thumbnails> {
    const name = `${where.call}/${where.sequence}`;
    return this.kept.get(name) ?? this.kept.set(name, this.makeThumbnails(where));
  }

  private async makeThumbnails(where: Where): Promise<Thumbnails> {
    const call = this.attend(where);
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

  pair({ head, i, j, ...where }: PairQuery): Promise<Pair> {
    const call = this.attend(where);
    const { scale, softcap, name } = call.score;
    const { products, score, scaled } = call.compare(head, i, j);
    const { normalizer, statisticName: statistic_name } = call;
    const statistic = finite(call.statistic(head, i));
    const one = new Float64Array(1);
    call.weights(head, i, j, j + 1, one);
    const weight = one[0] as number;
    const value = call.value(head, j);
    const bias = call.biasOf(head, i, j);
    if (call.given) return Promise.resolve(givenPair(weight, call.allowed(head, i, j)));
    return Promise.resolve({
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
    });
  }
}
