// The nine questions carried over loopback to foveate's own server.

import type {
  Difference, DifferenceQuery, Doc, HeadMeasures, Listed, MapQuery, MapTile, ModelInfo, Pair, PairQuery, Row, RowQuery, RunState, Thumbnails, Tile, TileQuery, TopK, TopKQuery, Where,
} from "./protocol";
import { aborted, Cache, partial } from "./source";
import type { Host, Source } from "./source";

const GONE = "foveate does not answer any more. Is it still running in the terminal?";

/** Carries one question, as an address, to whoever answers; an error is one sentence. */
export type Ask = (url: string, init?: RequestInit) => Promise<Response>;

async function ask(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    throw aborted(error) ? error : new Error(GONE);
  }
  if (response.ok) return response;
  let reason = "";
  try {
    reason = String(((await response.json()) as { error?: unknown }).error ?? "");
  } catch {
    // Not ours: say the status.
  }
  throw new Error(reason || `foveate answered ${response.status} ${response.statusText}`.trim());
}

async function json<T>(url: string, init?: RequestInit, carry: Ask = ask): Promise<T> {
  return (await (await carry(url, init)).json()) as T;
}

/** A frame is a uint32 length, a JSON header of that length, and the raw array. */
export function readFrame(buffer: ArrayBuffer): { header: Record<string, unknown>; body: ArrayBuffer } {
  if (buffer.byteLength < 4) throw new Error("foveate sent an answer that was cut short");
  const length = new DataView(buffer).getUint32(0, true);
  if (4 + length > buffer.byteLength) throw new Error("foveate sent an answer that was cut short");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as Record<string, unknown>;
  return { header, body: buffer.slice(4 + length) };
}

const MOST_BYTES = 2 ** 21;

/** What is not known whole will be asked for again, and rows of long texts would fill the memory. */
function keeps({ refined = 1, weights }: Partial<Row>): boolean {
  return refined >= 1 && (weights?.byteLength ?? 0) <= MOST_BYTES;
}

function query(parameters: object): string {
  return new URLSearchParams(Object.entries(parameters).map(([key, value]) => [key, String(value)])).toString();
}

export class HttpSource implements Source {
  readonly remote = true;
  readonly oneHead = true;
  private readonly answers = new Cache<Promise<unknown>>(256);

  constructor(private readonly base: string, private readonly id: string, private readonly carry: Ask = ask) {}

  private url(what: string, parameters: object = {}): string {
    const path = `${this.base}api/documents/${encodeURIComponent(this.id)}${what && `/${what}`}`;
    const search = query(parameters);
    return search ? `${path}?${search}` : path;
  }

  /** One request per question; an aborted or failed one is forgotten, so that it can be asked again. */
  private cached<T>(url: string, signal: AbortSignal | undefined, load: () => Promise<T>): Promise<T> {
    const present = this.answers.get(url) as Promise<T> | undefined;
    if (present) {
      // Whoever asked first may have lost interest; we have not.
      return present.catch((error: unknown) => {
        if (aborted(error) && !signal?.aborted) return this.cached(url, signal, load);
        throw error;
      });
    }
    const answer = load();
    this.answers.set(url, answer);
    const forget = () => this.answers.delete(url);
    answer.then((value) => { if (!keeps(value as Partial<Row>)) forget(); }, forget);
    return answer;
  }

  private frame<T>(what: string, parameters: object, signal: AbortSignal | undefined, read: (header: never, body: ArrayBuffer) => T): Promise<T> {
    const url = this.url(what, parameters);
    return this.cached(url, signal, async () => {
      const { header, body } = readFrame(await (await this.carry(url, signal ? { signal } : {})).arrayBuffer());
      return read(header as never, body);
    });
  }

  private json<T>(url: string, signal?: AbortSignal): Promise<T> {
    return this.cached(url, signal, () => json<T>(url, signal ? { signal } : {}, this.carry));
  }

  document(): Promise<Doc> {
    return this.json<Doc>(this.url(""));
  }

  async thumbnails(where: Where, signal?: AbortSignal): Promise<Thumbnails> {
    const found = await this.frame("thumbnails", where, signal, (header: Omit<Thumbnails, "pixels">, body) => ({ ...header, pixels: new Uint8Array(body) }));
    return this.forgotten(found, this.url("thumbnails", where));
  }

  async heads(where: Where): Promise<HeadMeasures> {
    const url = this.url("heads", where);
    return this.forgotten(await this.json<HeadMeasures>(url), url);
  }

  /** An answer from some rows is not kept: the next one is from more. */
  private forgotten<T extends { measured?: number; rows?: number }>(answer: T, url: string): T {
    if (partial(answer)) this.answers.delete(url);
    return answer;
  }

  row(which: RowQuery, signal?: AbortSignal): Promise<Row> {
    return this.frame("row", which, signal, (header: Omit<Row, "weights">, body) => ({ ...header, weights: new Float32Array(body) }));
  }

  tile(which: TileQuery, signal?: AbortSignal): Promise<Tile> {
    return this.frame("tile", which, signal, (header: Omit<Tile, "pixels">, body) => ({ ...header, pixels: new Uint8Array(body) }));
  }

  /** Never kept here: it may be finer the next time, and who draws it keeps it. */
  async map(which: MapQuery, signal?: AbortSignal): Promise<MapTile> {
    const { header, body } = readFrame(await (await ask(this.url("map", which), signal ? { signal } : {})).arrayBuffer());
    return { ...(header as unknown as Omit<MapTile, "pixels">), pixels: new Uint8Array(body) };
  }

  topk(which: TopKQuery, signal?: AbortSignal): Promise<TopK> {
    return this.json<TopK>(this.url("topk", which), signal);
  }

  difference(which: DifferenceQuery, signal?: AbortSignal): Promise<Difference> {
    return this.json<Difference>(this.url("difference", which), signal);
  }

  pair(which: PairQuery, signal?: AbortSignal): Promise<Pair> {
    return this.json<Pair>(this.url("pair", which), signal);
  }
}

export class HttpHost implements Host {
  constructor(private readonly base = "") {}

  documents(): Promise<Listed[]> {
    return json<Listed[]>(`${this.base}api/documents`);
  }

  open(id: string): Source {
    return new HttpSource(this.base, id);
  }

  model(): Promise<ModelInfo> {
    return json<ModelInfo>(`${this.base}api/model`);
  }

  async start(text: string, target: string): Promise<string> {
    const body = JSON.stringify(target ? { text, target } : { text });
    const headers = { "Content-Type": "application/json" };
    return (await json<{ run: string }>(`${this.base}api/runs`, { method: "POST", headers, body })).run;
  }

  state(run: string): Promise<RunState> {
    return json<RunState>(`${this.base}api/runs/${encodeURIComponent(run)}`);
  }
}
