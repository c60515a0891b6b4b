// Reading a long text: the text follows the map, a search goes through both, and passages lead from one place to another.

import { tokensOf, unitAt, wordless } from "../units";
import type { Axis } from "../units";
import { Finder, nextHit } from "../search";
import type { Hit } from "../search";
import type { Session } from "../session";
import type { Box } from "../tiling";
import { LONG } from "../tiling";
import type { Doc, Direction } from "../protocol";
import { PassageList } from "./passagelist";
import { SearchBar } from "./searchbar";
import type { SideName, WordsView } from "./words";
import type { WorldView } from "./world";

/** Whether some call of a document is too long for a map whose tiles are made from scratch. */
export function isLong(doc: Doc): boolean {
  return doc.calls.some(({ queries, keys }) => Math.max(queries, keys) > LONG);
}

interface Place extends Hit {
  side: "source" | "target";
}

export class Reader {
  readonly bar: SearchBar;
  readonly list: PassageList;
  private readonly finders = new Map<string, Finder>();
  private places: Place[] = [];
  private at = 0;
  private sought = "";
  private readonly units: Record<SideName, Set<number>> = { query: new Set(), key: new Set() };

  constructor(private readonly session: Session, private readonly words: WordsView, private readonly map: WorldView) {
    this.bar = new SearchBar({
      look: (text) => this.look(text),
      step: (by) => this.step(by),
      go: (what) => this.go(what),
      leave: () => words.focus(),
    });
    this.list = new PassageList(session, ({ best }) => {
      const direction = session.shown?.direction ?? session.state.direction;
      session.set({ other: best, locked: session.state.cursor !== null });
      words.show(direction === "reads" ? "key" : "query", best);
      const { i, j } = map.chosen;
      map.reveal(i, j);
    });
    words.mark = (list, unit) => this.mark(list, unit);
    map.moved = (box) => this.follow(box);
    this.search();
  }

  /** Follows the session. */
  update(): void {
    const { state } = this.session;
    const sought = [state.find, state.sequence, state.call, state.level].join("\n");
    if (sought !== this.sought) this.search();
  }

  private side(list: SideName): Axis {
    return list === "query" ? this.session.axes.query : this.session.axes.key;
  }

  /** What is searched for in which texts: those that the map has on its sides. */
  private search(): void {
    const { session } = this;
    const { state, doc, axes } = session;
    this.bar.element.hidden = wordless(axes.query) && wordless(axes.key);
    this.sought = [state.find, state.sequence, state.call, state.level].join("\n");
    const sides = axes.self ? [axes.query.side] : [axes.query.side, axes.key.side];
    this.places = state.find ? sides.flatMap((side) => this.finder(doc, state.sequence, side).find(state.find).map((hit) => ({ ...hit, side }))) : [];
    for (const list of ["query", "key"] as const) {
      const axis = this.side(list);
      this.units[list] = new Set(this.on(axis).flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, n) => unitAt(axis, first + n - axis.offset))));
    }
    this.map.found = { rows: this.on(axes.query).map(({ first }) => first - axes.query.offset), columns: this.on(axes.key).map(({ first }) => first - axes.key.offset) };
    const { from } = session.sides(state.direction);
    this.at = nextHit(this.places, state.cursor === null ? 0 : from.offset + (from.starts[state.cursor] ?? 0));
    this.shown();
  }

  private finder(doc: Doc, sequence: number, side: "source" | "target"): Finder {
    const name = `${sequence}/${side}`;
    let finder = this.finders.get(name);
    if (!finder) this.finders.set(name, finder = new Finder(tokensOf(doc.sequences[sequence] as Doc["sequences"][number], side)));
    return finder;
  }

  /** The places on an axis, as far as it goes. */
  private on(axis: Axis): Place[] {
    const end = axis.offset + (axis.starts[axis.length] ?? 0);
    return this.places.filter(({ side, first, last }) => side === axis.side && first >= axis.offset && last < end);
  }

  private shown(): void {
    this.bar.show(this.session.state.find, this.at, this.places.length);
    this.words.update();
    this.map.draw();
  }

  private look(text: string): void {
    this.session.state.find = text;
    this.search();
    this.reveal();
    this.session.emit("place");
  }

  private step(by: number): void {
    const count = this.places.length;
    if (!count) return;
    this.at = (this.at + by + count) % count;
    this.reveal();
    this.shown();
  }

  private listOf({ side }: Place): SideName {
    const { query, key } = this.session.axes;
    return query.side === side && (key.side !== side || this.session.state.direction === "reads") ? "query" : "key";
  }

  private reveal(): void {
    const place = this.places[this.at];
    if (!place) return;
    const list = this.listOf(place);
    const axis = this.side(list);
    this.words.show(list, unitAt(axis, place.first - axis.offset));
  }

  private mark(list: SideName, unit: number): "" | "found" | "here" {
    if (!this.units[list].has(unit)) return "";
    const axis = this.side(list);
    const { first = -1, last = -1, side = "" } = this.places[this.at] ?? {};
    const token = axis.offset + (axis.starts[unit] ?? 0);
    const end = axis.offset + (axis.starts[unit + 1] ?? 0);
    return side === axis.side && end > first && token <= last ? "here" : "found";
  }

  /** Chooses the place that was found, and shows its row or its column. */
  private go(what: "row" | "column"): void {
    const place = this.places[this.at];
    const { session } = this;
    const axis = what === "row" ? session.axes.query : session.axes.key;
    if (!place || place.side !== axis.side || place.first < axis.offset) return;
    const token = place.first - axis.offset;
    const direction: Direction = what === "row" ? "reads" : "read_by";
    session.set({ direction, cursor: unitAt(axis, token), other: null, locked: true });
    if (what === "row") this.map.reveal(token, null);
    else this.map.reveal(null, token);
  }

  /** The text goes to the rows that the map shows, unless some of its rows or columns can be read already. */
  private follow({ r0, r1, c0, c1 }: Box): void {
    const { query, key } = this.session.axes;
    const span = (axis: Axis, from: number, to: number) => [unitAt(axis, Math.floor(from)), unitAt(axis, Math.ceil(to) - 1)] as const;
    const [top, bottom] = span(query, r0, r1);
    const [left, right] = span(key, c0, c1);
    const read = (list: SideName, from: number, to: number) => {
      const [first, last] = this.words.sight(list);
      return first <= to && last >= from;
    };
    if (bottom - top > query.length / 2 || read("query", top, bottom) || read("key", left, right)) return;
    this.words.show("query", (top + bottom) >> 1);
  }
}
