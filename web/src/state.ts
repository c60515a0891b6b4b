// What is being looked at, and how it is written into the address so that a view can be bookmarked.

import type { Direction, Doc, Focus, Level } from "./protocol";
import type { LayoutKind } from "./layout";
import type { Place } from "./tiling";
import { axes, partOf } from "./units";

export interface State {
  sequence: number;
  call: number;
  head: number;
  all: boolean;
  direction: Direction;
  level: Level;
  special: boolean;
  layout: LayoutKind | "auto";
  /** The selected unit on the looking side of `direction`, and the unit pinned on the other side. */
  cursor: number | null;
  other: number | null;
  locked: boolean;
  /** The step of the decoder that is shown; null: the whole target. */
  step: number | null;
  /** Where the map of a long text is (null: all of it is seen), how its cells are pooled, and what is searched for. */
  place: Place | null;
  how: "max" | "mean";
  find: string;
}

const IN_SIGHT = 48;
const WORD = /[\p{L}\p{N}]/u;

/** The word that is shown before anyone chooses one: in the middle of what is in sight, or the last of it where each sees what came before. */
function firstWord(doc: Doc, { call, sequence, level, direction }: State): number | null {
  const facts = doc.calls[call];
  if (!facts) return null;
  const { query, key } = axes(doc, facts, sequence, level);
  const axis = direction === "reads" ? query : key;
  if (axis.grid) {
    const { first, picture: { rows, columns } } = axis.grid;
    const words = axis.text.flatMap((text, unit) => (!axis.special[unit] && !partOf(axis, unit) && WORD.test(text) ? [unit] : []));
    if (words.length) return words.at(-1) ?? null;
    return first && axis.special[0] ? 0 : first + (rows >> 1) * columns + (columns >> 1); // what stands for all of the picture, or its middle
  }
  const words = axis.text.slice(0, IN_SIGHT).flatMap((text, unit) => (!axis.special[unit] && WORD.test(text) ? [unit] : []));
  return (facts.causal ? words.at(-1) : words[words.length >> 1]) ?? null;
}

/** Where a document says to look first; else the head that was looked at before, if this is the same model, or how two texts are aligned. */
export function initialState(doc: Doc, before?: { doc: Doc; state: State }): State {
  const focus = doc.focus;
  const state: State = {
    sequence: 0, call: 0, head: 0, all: false, direction: "reads", level: "token", special: true, layout: "auto",
    cursor: null, other: null, locked: false, step: null, place: null, how: "max", find: "",
  };
  if (focus && focus.token !== null) return { ...state, ...lookingAt(focus), cursor: focus.token, locked: true };
  const same = before && before.doc.model === doc.model && before.doc.calls.length === doc.calls.length;
  const cross = Math.max(0, doc.calls.findIndex(({ kind }) => kind === "cross"));
  const start: State = same
    ? { ...before.state, sequence: 0, other: null, locked: false, step: null, place: null, find: "" }
    : { ...state, ...(focus ? lookingAt(focus) : { call: cross }) };
  return { ...start, cursor: firstWord(doc, start) };
}

function lookingAt({ sequence, call, head, direction, level }: Focus): Partial<State> {
  return { sequence, call, head: head ?? 0, all: head === null, direction, level };
}

export function writeHash(doc: Doc, state: State): string {
  const parts: Record<string, string | number> = { doc: doc.id, call: state.call, head: state.all ? `all.${state.head}` : state.head };
  if (doc.sequences.length > 1) parts.sequence = state.sequence;
  if (state.direction === "read_by") parts.by = 1;
  parts.level = state.level;
  if (!state.special) parts.special = 0;
  if (state.layout !== "auto") parts.layout = state.layout;
  if (state.cursor !== null && state.locked) parts.word = state.cursor;
  if (state.cursor !== null && state.locked && state.other !== null) parts.other = state.other;
  if (state.step !== null) parts.step = state.step;
  if (state.place) parts.map = [state.place.row, state.place.column].map(Math.round).concat(Number(state.place.zoom.toFixed(2))).join();
  if (state.how === "mean") parts.how = "mean";
  if (state.find) parts.find = state.find;
  return new URLSearchParams(Object.entries(parts).map(([key, value]) => [key, String(value)])).toString();
}

export function hashDocument(hash: string): string | null {
  return new URLSearchParams(hash.replace(/^#/, "")).get("doc");
}

function whole(text: string | null, limit: number): number | null {
  const value = text !== null && /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  return value < limit ? value : null;
}

const LONGEST_FIND = 200;

function placeOf(text: string | null): Place | null {
  const found = /^(\d{1,9}),(\d{1,9}),(-?\d{1,2}(?:\.\d{1,2})?)$/.exec(text ?? "");
  return found && { row: Number(found[1]), column: Number(found[2]), zoom: Number(found[3]) };
}

/** A state from an address; whatever does not fit the document keeps the value of `from`. */
export function readHash(hash: string, doc: Doc, from: State): State {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  if (parts.get("doc") !== doc.id) return from;
  const call = whole(parts.get("call"), doc.calls.length) ?? from.call;
  const heads = doc.calls[call]?.heads ?? 1;
  const head = (parts.get("head") ?? "").replace(/^all\./, "");
  const layout = parts.get("layout");
  const cursor = whole(parts.get("word"), 1e9);
  const state: State = {
    ...from,
    sequence: whole(parts.get("sequence"), doc.sequences.length) ?? from.sequence,
    call,
    head: whole(head, heads) ?? 0,
    all: (parts.get("head") ?? "").startsWith("all."),
    direction: parts.get("by") === "1" ? "read_by" : "reads",
    level: parts.get("level") === "word" ? "word" : "token",
    special: parts.get("special") !== "0",
    layout: layout === "columns" || layout === "rows" || layout === "text" ? layout : "auto",
    cursor,
    other: cursor === null ? null : whole(parts.get("other"), 1e9),
    locked: cursor !== null,
    step: whole(parts.get("step"), doc.decoding?.steps[whole(parts.get("sequence"), doc.sequences.length) ?? from.sequence]?.length ?? 0),
    place: placeOf(parts.get("map")),
    how: parts.get("how") === "mean" ? "mean" : "max",
    find: (parts.get("find") ?? "").slice(0, LONGEST_FIND),
  };
  return cursor === null ? { ...state, cursor: firstWord(doc, state) } : state;
}
