// Two documents at the same place: which units they share, and the weights of both at them.

import type { Blocks, Compared, Difference, Doc } from "./protocol";
import type { Session } from "./session";
import { Cache } from "./source";
import type { Source } from "./source";
import { axes as makeAxes } from "./units";
import type { Axes } from "./units";

/** Both texts one under the other: a slot for every unit, -1 where one of them has none there. */
export interface Merged {
  a: number[];
  b: number[];
}

/** The units of both axes in order; what only one has stands where the other goes on. */
export function merged(blocks: Blocks, lengthA: number, lengthB: number): Merged {
  const result: Merged = { a: [], b: [] };
  const put = (a: number, b: number) => void (result.a.push(a), result.b.push(b));
  let [i, j] = [0, 0];
  for (const [a, b, size] of [...blocks, [lengthA, lengthB, 0] as const]) {
    while (i < a) put(i++, -1);
    while (j < b) put(-1, j++);
    for (let n = 0; n < size; n++) put(i++, j++);
  }
  return result;
}

/** Weights of one head of both, slot by slot; NaN where a document has no such row or column. */
export interface Maps {
  height: number;
  width: number;
  a: Float32Array;
  b: Float32Array;
  /** The largest weight, and the largest difference. */
  peak: number;
  change: number;
}

/** The same row of both, exact, by slots of the columns. */
export interface Rows {
  a: Float32Array;
  b: Float32Array;
}

/** Beyond so many slots a side the maps are not drawn. */
const MOST = 1024;

export class Comparison {
  found: Difference | null = null;
  rows: Merged = { a: [], b: [] };
  columns: Merged = { a: [], b: [] };
  maps: Maps | null = null;
  /** Of the layers that were measured, by call. */
  readonly heads = new Map<number, Difference>();
  private axes: Axes | null = null;
  private doc: Doc | null = null;
  private wanted = "";
  /** The place that `found`, the slots and the maps belong to. */
  private place = { name: "", call: 0, head: 0 };
  private measuring = false;
  private sequence = -1;
  private readonly abort = new AbortController();
  private readonly known = new Cache<Promise<Rows>>(64);

  constructor(private readonly session: Session, private readonly other: Source, private readonly about: Compared) {}

  close(): void {
    this.abort.abort();
  }

  private ask(call: number): Promise<Difference> {
    const { source, state: { sequence, level } } = this.session;
    if (!source.difference) throw new Error("two recordings are compared in a page that is served");
    return source.difference({ call, sequence, other: this.about.id, level }, this.abort.signal);
  }

  /** Looks at the place that the session looks at; false where that is so already, or no longer wanted. */
  async follow(): Promise<boolean> {
    const { session } = this;
    const { call, sequence, head, level } = session.state;
    const name = [call, sequence, head, level].join();
    if (name === this.wanted) return false;
    this.wanted = name;
    const mine = session.axes;
    const doc = (this.doc ??= await this.other.document());
    const found = await this.ask(call);
    const there = found.call === null ? undefined : doc.calls[found.call];
    const axes = there ? makeAxes(doc, there, sequence, level) : null;
    const rows = merged(found.rows, mine.query.length, axes?.query.length ?? 0);
    const columns = merged(found.columns, mine.key.length, axes?.key.length ?? 0);
    const theirs = found.heads[head] ?? null;
    let maps: Maps | null = null;
    if (axes && there && theirs !== null && Math.max(rows.a.length, columns.a.length) <= MOST) {
      const [a, b] = await Promise.all([this.whole(session.source, call, head, mine), this.whole(this.other, there.index, theirs, axes)]);
      maps = beside(spread(a, mine.key.length, rows.a, columns.a), spread(b, axes.key.length, rows.b, columns.b), rows.a.length, columns.a.length);
    }
    if (this.wanted !== name) return false;
    Object.assign(this, { found, axes, rows, columns, maps, place: { name, call, head } });
    return true;
  }

  private async whole(source: Source, call: number, head: number, { query, key }: Axes): Promise<Float32Array> {
    const { sequence, level } = this.session.state;
    const [height, width] = [query.length, key.length];
    if (!height || !width) return new Float32Array(0);
    const { pixels, peak } = await source.tile({ call, sequence, head, r0: 0, r1: height, c0: 0, c1: width, height, width, how: "max", level }, this.abort.signal);
    return Float32Array.from(pixels, (value) => (value * peak) / 255);
  }

  /** Whether what is known belongs to the place that is looked at. */
  get ready(): boolean {
    const { call, sequence, head, level } = this.session.state;
    return this.place.name === [call, sequence, head, level].join();
  }

  /** The row of a slot in both; null where one has no such row. */
  async row(slot: number): Promise<Rows | null> {
    const { found, rows, columns, session, place: { name: here, call, head } } = this;
    const [i, j] = [rows.a[slot] ?? -1, rows.b[slot] ?? -1];
    const { sequence, level } = session.state;
    const theirs = found?.heads[head] ?? null;
    if (!found || found.call === null || theirs === null || i < 0 || j < 0) return null;
    const name = `${here}/${slot}`;
    const present = this.known.get(name);
    if (present) return present;
    const one = async (source: Source, where: number, index: number, n: number, slots: number[]) => {
      const { weights, length } = await source.row({ call: where, sequence, index, direction: "reads", level }, this.abort.signal);
      return Float32Array.from(slots, (unit) => (unit < 0 ? NaN : (weights[n * length + unit] as number)));
    };
    const both = [one(session.source, call, i, head, columns.a), one(this.other, found.call, j, theirs, columns.b)] as const;
    const asked = Promise.all(both).then(([a, b]) => ({ a, b }));
    asked.catch(() => this.known.delete(name));
    return this.known.set(name, asked);
  }

  /** The word of a slot, from whichever document has it. */
  text(side: "query" | "key", slot: number): string {
    const { a, b } = side === "query" ? this.rows : this.columns;
    const [i, j] = [a[slot] ?? -1, b[slot] ?? -1];
    return (i >= 0 ? this.session.axes[side].text[i] : this.axes?.[side].text[j]) ?? "";
  }

  /** Every layer of the grid, one after another: how much each of its heads differs. */
  async measure(tell: () => void): Promise<void> {
    const { state } = this.session;
    if (this.sequence !== state.sequence) this.heads.clear();
    this.sequence = state.sequence;
    if (this.measuring) return;
    this.measuring = true;
    try {
      for (let next = this.unmeasured(); next !== undefined && !this.abort.signal.aborted; next = this.unmeasured()) {
        const { sequence } = this;
        const found = await this.ask(next);
        if (sequence === this.sequence) this.heads.set(next, found);
        tell();
      }
    } finally {
      this.measuring = false;
    }
  }

  private unmeasured(): number | undefined {
    return this.session.layers.find(({ index }) => !this.heads.has(index))?.index;
  }
}

function spread(weights: Float32Array, width: number, rows: number[], columns: number[]): Float32Array {
  const result = new Float32Array(rows.length * columns.length).fill(NaN);
  rows.forEach((i, r) => columns.forEach((j, c) => {
    if (i >= 0 && j >= 0) result[r * columns.length + c] = weights[i * width + j] as number;
  }));
  return result;
}

function beside(a: Float32Array, b: Float32Array, height: number, width: number): Maps {
  let [peak, change] = [0, 0];
  a.forEach((x, at) => {
    const y = b[at] as number;
    peak = Math.max(peak, x || 0, y || 0);
    change = Math.max(change, Math.abs(y - x) || 0);
  });
  return { height, width, a, b, peak, change };
}
