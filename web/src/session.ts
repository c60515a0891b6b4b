// One document being looked at: the state, the answers that belong to it, and who wants to hear of changes.

import type { Call, Direction, Doc, Pair, PairQuery, RowQuery, Step, Thumbnails } from "./protocol";
import { aborted, partial } from "./source";
import type { Source } from "./source";
import type { State } from "./state";
import { axes as makeAxes, folded, follow, tokensOf, unitAt } from "./units";
import type { Axes, Axis } from "./units";
import { denseWeights, ofHead, sparseWeights } from "./weights";
import type { Weights } from "./weights";
import type { Theme } from "./color";

export interface Active {
  unit: number;
  direction: Direction;
}

interface Events {
  state: [];
  weights: [];
  pair: [];
  /** The map of a long text was moved. */
  place: [];
  thumbnails: [call: number];
  theme: [];
  error: [message: string];
  blank: [message: string];
}

type Listener<K extends keyof Events> = (...values: Events[K]) => void;

function same(a: Active | null, b: Active | null): boolean {
  return a?.unit === b?.unit && a?.direction === b?.direction;
}

/** Beyond this many units a hover asks for the largest weights only. */
const DENSE_LIMIT = 8192;
const SPARSE_COUNT = 256;
const SLOW_MS = 25;
const AHEAD_MS = 120;
const REST_MS = 40;
/** What is not known whole is asked for again. */
const AGAIN_MS = 700;
/** When thumbnails of a long text are asked for again: before they show anything, and while they get finer. */
const SOON_MS = 500;
const LATER_MS = 4000;
/** Thumbnails of more weights than this are not asked for where the page would compute them itself. */
const MOST_CELLS = 2 ** 32;

export class Session {
  axes: Axes;
  weights: Weights | null = null;
  /** What `weights` belongs to. */
  shown: Active | null = null;
  pair: Pair | null = null;
  pairAt: PairQuery | null = null;
  theme: Theme = "light";
  readonly thumbnails = new Map<number, Thumbnails>();
  readonly hidden = new Set<number>();
  /** Whether a picture is seen without the weights over it. */
  bare = false;
  private hover: Active | null = null;
  private hoverOther: number | null = null;
  private readonly listeners: { [K in keyof Events]?: Listener<K>[] } = {};
  private wanted = "";
  private present = "";
  private rowAbort = new AbortController();
  private pairAbort = new AbortController();
  private pairWanted = "";
  private closed = false;
  private aheadTimer: ReturnType<typeof setTimeout> | undefined;
  private pairTimer: ReturnType<typeof setTimeout> | undefined;
  private againTimer: ReturnType<typeof setTimeout> | undefined;
  private thumbnailTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly source: Source, readonly doc: Doc, public state: State) {
    this.clamp();
    const { heads } = doc.focus ?? {};
    if (heads) for (let head = 0; head < this.call.heads; head++) if (!heads.includes(head)) this.hidden.add(head);
    this.axes = this.makeAxes();
    this.followStep();
    this.fit();
  }

  on<K extends keyof Events>(event: K, listener: Listener<K>): void {
    ((this.listeners[event] ??= []) as Listener<K>[]).push(listener);
  }

  emit<K extends keyof Events>(event: K, ...values: Events[K]): void {
    if (!this.closed) for (const listener of (this.listeners[event] ?? []) as Listener<K>[]) listener(...values);
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.aheadTimer);
    clearTimeout(this.pairTimer);
    clearTimeout(this.againTimer);
    clearTimeout(this.thumbnailTimer);
    this.rowAbort.abort();
    this.pairAbort.abort();
  }

  fail(error: unknown): void {
    if (!aborted(error)) this.emit("error", error instanceof Error ? error.message : String(error));
  }

  get call(): Call {
    return this.doc.calls[this.state.call] as Call;
  }

  /** The calls of the grid: same part of the model, same step. */
  get layers(): Call[] {
    const { kind, step } = this.call;
    return this.doc.calls.filter((call) => call.kind === kind && call.step === step);
  }

  /** How the target that is shown was written; empty where nobody knows. */
  get steps(): Step[] {
    return this.doc.decoding?.steps[this.state.sequence] ?? [];
  }

  get step(): Step | null {
    return this.state.step === null ? null : (this.steps[this.state.step] ?? null);
  }

  /** Which text the steps wrote, and whether a step shows what its token read itself. */
  get writing(): { side: Axis["side"]; own: boolean } {
    const { doc } = this;
    return { side: doc.calls[doc.decoding?.calls[0] ?? 0]?.rows ?? "target", own: doc.decoding?.own ?? false };
  }

  /** Whether a unit was generated, in a text of which another part was given. */
  generated(axis: Axis, unit: number): boolean {
    const first = this.steps[0]?.token;
    const { side, own } = this.writing;
    if (first === undefined || !own || side !== "source" || axis.side !== side) return false;
    return axis.offset + (axis.starts[unit] as number) > first; // the first step is that of the last token that was given
  }

  /** The steps at which one may stand: those of special tokens only while these are shown. */
  get stops(): number[] {
    const texts = this.doc.sequences[this.state.sequence];
    const special = texts && tokensOf(texts, this.writing.side).special;
    return this.steps.flatMap(({ token }, n) => (this.state.special || !special?.[token] ? [n] : []));
  }

  /** How many tokens of a unit there are at this step: all of them where no step is looked at. */
  written(axis: Axis, unit: number): number {
    const first = axis.starts[unit] as number;
    const size = (axis.starts[unit + 1] as number) - first;
    const { step, writing } = this;
    if (!step || axis.side !== writing.side) return size;
    const end = step.token + (axis === this.axes.query || writing.own ? 1 : 0) - axis.offset; // else keys are what was written before
    return Math.max(0, Math.min(size, end - first));
  }

  complete(axis: Axis, unit: number): boolean {
    return this.written(axis, unit) === (axis.starts[unit + 1] as number) - (axis.starts[unit] as number);
  }

  /** What is there of a unit at this step. */
  textOf(axis: Axis, unit: number): string {
    if (this.complete(axis, unit)) return axis.text[unit] ?? "";
    const from = axis.offset + (axis.starts[unit] as number);
    const { text } = tokensOf(this.doc.sequences[this.state.sequence] as Doc["sequences"][number], axis.side);
    return text.slice(from, from + this.written(axis, unit)).join("");
  }

  /** The heads whose lines are drawn. */
  get heads(): number[] {
    if (!this.state.all) return [this.state.head];
    return Array.from({ length: this.call.heads }, (_, head) => head).filter((head) => !this.hidden.has(head));
  }

  get active(): Active | null {
    const { cursor, locked, direction } = this.state;
    if (!locked && this.hover) return this.hover;
    return cursor === null ? null : { unit: cursor, direction };
  }

  /** The looking axis and the looked-at axis of a direction. */
  sides(direction: Direction): { from: Axis; to: Axis } {
    const { query, key } = this.axes;
    return direction === "reads" ? { from: query, to: key } : { from: key, to: query };
  }

  /** The unit on the other side that the numbers are about: hovered, else pinned, else the strongest. */
  get other(): number | null {
    const { active, weights } = this;
    if (!active) return null;
    if (this.hoverOther !== null) return this.hoverOther;
    if (this.state.other !== null && this.state.locked) return this.state.other;
    return weights && same(this.shown, active) ? this.best(weights) : null;
  }

  /** Whether the pair at hand is of the head that is shown; where not, that one's is on its way. */
  get paired(): boolean {
    const { pairAt, state } = this;
    return pairAt?.call === state.call && pairAt.sequence === state.sequence && pairAt.head === state.head;
  }

  get hoveredOther(): number | null {
    return this.hoverOther;
  }

  private best(weights: Weights): number | null {
    const { to } = this.sides((this.shown as Active).direction);
    return weights.top(this.state.head, 1, (unit) => this.state.special || !to.special[unit])[0]?.[0] ?? null;
  }

  private makeAxes(): Axes {
    return makeAxes(this.doc, this.call, this.state.sequence, this.state.level);
  }

  private clamp(): void {
    const { state, doc } = this;
    if (!doc.calls.length) throw new Error("nothing was recorded: this document holds no attention call");
    state.sequence = Math.min(state.sequence, doc.sequences.length - 1);
    state.call = Math.max(0, Math.min(state.call, doc.calls.length - 1));
    state.head = Math.max(0, Math.min(state.head, this.call.heads - 1));
  }

  /** Keeps the selection inside the axes. */
  private fit(): void {
    const { from, to } = this.sides(this.state.direction);
    const inside = (unit: number | null, axis: Axis) => (unit !== null && unit < axis.length && (this.state.special || !axis.special[unit]) ? unit : null);
    this.state.cursor = inside(this.state.cursor, from);
    this.state.other = inside(this.state.other, to);
    if (this.state.cursor === null) this.state.locked = false;
  }

  /** Goes steps on, or back; from the whole target to its first step, or its last. */
  walk(by: number): void {
    const { stops } = this;
    if (!stops.length) return;
    const at = this.state.step === null ? (by > 0 ? -1 : stops.length) : stops.indexOf(this.state.step);
    this.set({ step: stops[Math.max(0, Math.min(stops.length - 1, at + by))] as number }, performance.now());
  }

  /** The step that a change asks for: another word, another call, or none any more. */
  private chooseStep(change: Partial<State>, before: State): void {
    const { state, doc } = this;
    const calls = doc.decoding?.calls ?? [];
    if (state.step === null) return;
    const asked = change.step !== undefined;
    const elsewhere = state.direction !== "reads" || state.cursor === null || !state.locked || !calls.includes(state.call);
    if (!this.step || state.sequence !== before.sequence || (elsewhere && !asked)) state.step = null;
    else if (asked && !calls.includes(state.call)) state.call = calls[0] ?? state.call;
    else if (!asked && change.cursor !== undefined) state.step = this.stepOf(change.cursor as number);
    if (state.step === null || this.stops.includes(state.step)) return;
    state.step = this.stops.filter((stop) => stop < (state.step as number)).at(-1) ?? this.stops[0] ?? null;
  }

  /** The step after which a word stands there whole. */
  private stepOf(unit: number): number | null {
    const { query } = this.axes;
    const last = query.offset + (query.starts[unit + 1] ?? 0) - 1;
    const found = this.steps.findIndex(({ token }) => token === last);
    return found < 0 ? null : found;
  }

  /** The word of the step is the one that is looked at. */
  private followStep(): void {
    const { step, state, axes } = this;
    if (!step) return;
    state.direction = "reads";
    state.cursor = unitAt(axes.query, step.token - axes.query.offset);
    state.locked = true;
  }

  /** Changes the state; words keep their place in the text when direction, level or call change. */
  set(change: Partial<State>, cause = 0): void {
    const before = { ...this.state };
    const old = this.sides(before.direction);
    Object.assign(this.state, change);
    this.chooseStep(change, before);
    if (this.step) this.state.direction = "reads";
    this.clamp();
    const moved = before.level !== this.state.level || before.call !== this.state.call || before.sequence !== this.state.sequence;
    const turned = before.direction !== this.state.direction;
    if (moved) {
      this.axes = this.makeAxes();
      this.forget(); // the weights at hand belong to other words
    }
    if (moved || turned) {
      const { from, to } = this.sides(this.state.direction);
      const carry = (unit: number | null, axis: Axis, target: Axis) => (unit === null ? null : follow(axis, unit, target));
      if (change.cursor === undefined) {
        const swap = turned && !this.axes.self;
        [this.state.cursor, this.state.other] = swap ? [this.state.other, this.state.cursor] : [carry(before.cursor, old.from, from), carry(before.other, old.to, to)];
      }
      this.hover = null;
      this.hoverOther = null;
    }
    if (before.sequence !== this.state.sequence) this.thumbnails.clear();
    if (before.step !== this.state.step) this.state.other = change.other ?? null;
    this.followStep();
    this.fit();
    this.emit("state");
    this.refresh(cause);
  }

  point(unit: Active | null, cause = 0): void {
    if (this.state.locked || same(this.hover, unit)) return;
    this.hover = unit;
    this.hoverOther = null;
    this.refresh(cause);
  }

  pointOther(unit: number | null): void {
    if (this.hoverOther === unit) return;
    this.hoverOther = unit;
    this.emit("weights");
    this.askPairSoon();
  }

  /** Fetches the weights of the active word, then says so; `cause` is when the person moved. */
  refresh(cause = 0): void {
    const active = this.active;
    if (!active) {
      this.forget();
      this.emit("weights");
      this.askPair();
      return;
    }
    const query = this.rowQuery(active);
    const name = JSON.stringify([query, this.state.level]);
    if (name === this.wanted) {
      if (this.present === name) this.answer(active, cause);
      return;
    }
    this.wanted = name;
    clearTimeout(this.aheadTimer);
    this.rowAbort.abort();
    this.rowAbort = new AbortController();
    const asked = performance.now();
    this.fetchWeights(query, active, this.rowAbort.signal).then(
      (weights) => {
        if (this.wanted !== name) return;
        this.weights = weights;
        this.present = name;
        this.answer(active, cause);
        if (weights.refined < 1) this.askAgain(name);
        if (performance.now() - asked > SLOW_MS) this.lookAhead(active);
      },
      (error: unknown) => {
        if (this.wanted === name) this.wanted = "";
        this.fail(error);
      },
    );
  }

  /** What a word receives gets known row by row. */
  private askAgain(name: string): void {
    clearTimeout(this.againTimer);
    this.againTimer = setTimeout(() => {
      if (this.wanted !== name) return;
      this.wanted = "";
      this.refresh();
    }, AGAIN_MS);
  }

  private forget(): void {
    this.wanted = "";
    this.present = "";
    this.weights = null;
    this.shown = null;
  }

  private answer(active: Active, cause: number): void {
    this.shown = active;
    this.emit("weights");
    if (cause) performance.measure("foveate-hover", { start: cause, end: performance.now() });
    if (this.state.cursor === null) this.askPairSoon();
    else this.askPair();
  }

  private rowQuery({ unit, direction }: Active): RowQuery {
    const { call, sequence, level } = this.state;
    const { step } = this; // one token was written, whatever else its word holds
    if (step) return { call, sequence, index: step.token - this.call.offset, direction, level: "token" };
    return { call, sequence, index: unit, direction, level, ...(this.lone ? { head: this.state.head } : {}) };
  }

  /** In a long text only the head that is shown is asked about, where the source can. */
  private get lone(): boolean {
    const { query, key } = this.axes;
    return Boolean(this.source.oneHead) && !this.state.all && Math.max(query.length, key.length) > DENSE_LIMIT;
  }

  private async fetchWeights(query: RowQuery, { direction }: Active, signal: AbortSignal): Promise<Weights> {
    const { length, starts } = this.sides(direction).to;
    if (this.step) return denseWeights(folded(await this.source.row(query, signal), starts));
    const found = length <= DENSE_LIMIT ? denseWeights(await this.source.row(query, signal)) : sparseWeights(await this.source.topk({ ...query, k: SPARSE_COUNT }, signal), length);
    return query.head === undefined ? found : ofHead(found, query.head);
  }

  /** Where answers are slow, the words next to this one are asked for when all else is quiet. */
  private lookAhead({ unit, direction }: Active): void {
    const { from, to } = this.sides(direction);
    clearTimeout(this.aheadTimer);
    if (!this.source.remote || to.length > DENSE_LIMIT || this.step) return;
    this.aheadTimer = setTimeout(() => {
      for (const next of [unit + 1, unit - 1]) {
        if (next >= 0 && next < from.length) this.source.row(this.rowQuery({ unit: next, direction })).catch(() => undefined);
      }
    }, AHEAD_MS);
  }

  /** The pair as positions of the call: a word stands for its first token. */
  private pairPositions(): { i: number; j: number } | null {
    const { active, other } = this;
    if (!active || other === null) return null;
    const { from, to } = this.sides(active.direction);
    const row = this.step ? this.step.token - this.call.offset : (from.starts[active.unit] as number);
    const [a, b] = [row, to.starts[other] as number];
    return active.direction === "reads" ? { i: a, j: b } : { i: b, j: a };
  }

  /** While words are only passed over, the pair is asked for where the pointer rests. */
  private askPairSoon(): void {
    clearTimeout(this.pairTimer);
    if (!this.active) this.askPair();
    else this.pairTimer = setTimeout(() => this.askPair(), REST_MS);
  }

  private askPair(): void {
    clearTimeout(this.pairTimer);
    const at = this.closed ? null : this.pairPositions();
    const { call, sequence, head } = this.state;
    const name = at ? [call, sequence, head, at.i, at.j].join() : "";
    if (name === this.pairWanted) return;
    this.pairWanted = name;
    this.pairAbort.abort();
    if (!at) {
      this.pair = null;
      this.pairAt = null;
      this.emit("pair");
      return;
    }
    this.pairAbort = new AbortController();
    this.source.pair({ call, sequence, head, ...at }, this.pairAbort.signal).then(
      (pair) => {
        if (this.pairWanted !== name) return;
        this.pair = pair;
        this.pairAt = pair && { call, sequence, head, ...at };
        this.emit("pair");
      },
      (error: unknown) => {
        if (this.pairWanted === name) this.pairWanted = "";
        this.fail(error);
      },
    );
  }

  /** Thumbnails of every layer of the grid, the chosen one first. */
  loadThumbnails(): void {
    this.drawThumbnails().catch((error: unknown) => {
      if (!aborted(error)) this.emit("blank", error instanceof Error ? error.message : String(error));
    });
  }

  private async drawThumbnails(): Promise<void> {
    const { sequence } = this.state;
    const layers = this.layers;
    const unfinished = ({ index }: Call) => !this.thumbnails.has(index) || partial(this.thumbnails.get(index));
    const order = [this.call, ...layers.filter((call) => call !== this.call)].filter(unfinished);
    for (const { index, heads, queries, keys } of order) {
      if (!this.source.remote && heads * queries * keys > MOST_CELLS) throw new Error("The text is too long for small pictures of every head.");
      if (this.closed || this.state.sequence !== sequence) return;
      this.thumbnails.set(index, await this.source.thumbnails({ call: index, sequence }));
      if (this.state.sequence === sequence) this.emit("thumbnails", index);
      else this.thumbnails.delete(index);
    }
    clearTimeout(this.thumbnailTimer);
    const left = layers.map(({ index }) => this.thumbnails.get(index)).filter(partial);
    if (left.length && !this.closed) this.thumbnailTimer = setTimeout(() => this.loadThumbnails(), left.some((one) => !one?.measured) ? SOON_MS : LATER_MS);
  }

  /** The largest weight of a head, once its thumbnail is known. */
  peak(head: number): number | null {
    return this.thumbnails.get(this.state.call)?.peak[head] ?? null;
  }
}
