// What the page may ask, whoever answers: the server, or the file itself.

import type {
  Difference, DifferenceQuery, Doc, HeadMeasures, Listed, MapQuery, MapTile, ModelInfo, Pair, PairQuery, Row, RowQuery, RunState, Thumbnails, Tile, TileQuery, TopK, TopKQuery, Where,
} from "./protocol";

export interface Source {
  document(): Promise<Doc>;
  thumbnails(where: Where, signal?: AbortSignal): Promise<Thumbnails>;
  /** Where nobody can measure heads there is no such question. */
  heads?(where: Where): Promise<HeadMeasures>;
  row(query: RowQuery, signal?: AbortSignal): Promise<Row>;
  topk(query: TopKQuery, signal?: AbortSignal): Promise<TopK>;
  tile(query: TileQuery, signal?: AbortSignal): Promise<Tile>;
  map(query: MapQuery, signal?: AbortSignal): Promise<MapTile>;
  /** null where a static page holds no queries and keys. */
  pair(query: PairQuery, signal?: AbortSignal): Promise<Pair | null>;
  /** True where `row` and `topk` take a `head`, and then answer for that head alone. */
  readonly oneHead?: boolean;
  /** Only a server holds a second document. */
  difference?(query: DifferenceQuery, signal?: AbortSignal): Promise<Difference>;
  /** True where asking ahead pays, because answers travel. */
  readonly remote: boolean;
}

/** Where documents come from; only a server can run a model on a new text. */
export interface Host {
  documents(): Promise<Listed[]>;
  open(id: string): Source;
  model(): Promise<ModelInfo>;
  start(text: string, target: string): Promise<string>;
  state(run: string): Promise<RunState>;
}

/** The most recently used answers, by key. */
export class Cache<V> {
  private readonly kept = new Map<string, V>();

  constructor(private readonly limit: number) {}

  get(key: string): V | undefined {
    const value = this.kept.get(key);
    if (value !== undefined) {
      this.kept.delete(key);
      this.kept.set(key, value);
    }
    return value;
  }

  set(key: string, value: V): V {
    this.kept.delete(key);
    this.kept.set(key, value);
    if (this.kept.size > this.limit) this.kept.delete(this.kept.keys().next().value as string);
    return value;
  }

  delete(key: string): void {
    this.kept.delete(key);
  }

  clear(): void {
    this.kept.clear();
  }
}

export function aborted(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

export function abortError(): Error {
  const error = new Error("no longer wanted");
  error.name = "AbortError";
  return error;
}

/** Whether a later answer may show more: of a long text a sample of rows comes first. */
export function partial(answer: { measured?: number; rows?: number } | undefined): boolean {
  return answer !== undefined && (answer.measured ?? 0) < (answer.rows ?? 0);
}
