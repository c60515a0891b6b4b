// The tiles of one map that are at hand: those in sight are asked for, a few at a time, and again until they are exact.

import type { MapQuery, MapTile } from "./protocol";
import { aborted, Cache } from "./source";
import type { Source } from "./source";
import { spotName } from "./tiling";
import type { Spot } from "./tiling";

/** Two connections are left for what is asked when someone points at a word. */
const AT_ONCE = 4;
const KEPT = 224;
const AGAIN_MS = 400;

/** Which map: of which head, and how its cells are pooled. */
export type Which = Pick<MapQuery, "call" | "sequence" | "head" | "how">;

export interface Kept extends MapTile {
  /** Grows with each answer, so that a painted picture can be told from an older one. */
  version: number;
  /** When it was answered. */
  at: number;
}

export class Tiles {
  /** Of the whole map, as the last answer said; null before the first. */
  refined: number | null = null;
  private readonly kept = new Cache<Kept>(KEPT);
  private readonly flying = new Map<string, AbortController>();
  private readonly broken = new Set<string>();
  private which: Which | null = null;
  private key = "";
  private wanted: Spot[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private version = 0;

  constructor(
    private readonly source: Pick<Source, "map">,
    private readonly changed: () => void,
    private readonly failed: (error: unknown) => void,
    private readonly againMs = AGAIN_MS,
  ) {}

  close(): void {
    this.wanted = [];
    clearTimeout(this.timer);
    for (const flight of this.flying.values()) flight.abort();
    this.flying.clear();
  }

  /** Number of tiles that are being asked for. */
  get pending(): number {
    return this.flying.size;
  }

  /** Which tiles of which map are in sight; others are no longer asked for. The first of them is asked for alone, so that
   * something is seen soon, then the rest in their order. */
  show(which: Which, wanted: Spot[]): void {
    const key = [which.call, which.sequence, which.head, which.how].join();
    if (key !== this.key) {
      [this.key, this.which, this.refined] = [key, which, null];
      this.broken.clear();
    }
    this.wanted = wanted;
    const names = new Set(wanted.map((spot) => this.name(spot)));
    for (const [name, flight] of this.flying) {
      if (names.has(name)) continue;
      flight.abort();
      this.flying.delete(name);
    }
    this.pump();
  }

  private name(spot: Spot): string {
    return `${this.key}/${spotName(spot)}`;
  }

  get(spot: Spot): Kept | undefined {
    return this.kept.get(this.name(spot));
  }

  private pump(): void {
    clearTimeout(this.timer);
    const now = performance.now();
    const first = this.wanted[0];
    const atOnce = first && !this.get(first) && !this.broken.has(this.name(first)) ? 1 : AT_ONCE;
    let soon = Infinity;
    for (const spot of this.wanted) {
      const name = this.name(spot);
      if (this.flying.has(name) || this.broken.has(name)) continue;
      const present = this.kept.get(name);
      if (present?.exact) continue;
      const due = present ? present.at + this.againMs : 0;
      if (due > now) soon = Math.min(soon, due);
      else if (this.flying.size < atOnce) this.ask(spot, name);
    }
    if (soon < Infinity) this.timer = setTimeout(() => this.pump(), soon - now);
  }

  private ask(spot: Spot, name: string): void {
    const flight = new AbortController();
    const { key } = this;
    this.flying.set(name, flight);
    const landed = () => this.flying.get(name) === flight && this.flying.delete(name);
    this.source.map({ ...(this.which as Which), ...spot }, flight.signal).then(
      (tile) => {
        landed();
        this.kept.set(name, { ...tile, version: ++this.version, at: performance.now() });
        if (key === this.key) this.refined = Math.max(this.refined ?? 0, tile.refined);
        this.pump();
        this.changed();
      },
      (error: unknown) => {
        const mine = landed();
        if (!aborted(error)) {
          this.broken.add(name); // one that failed is not asked for again
          this.failed(error);
        }
        if (mine) this.pump();
      },
    );
  }
}
