// The questions of the source protocol as messages of a notebook widget: each with an id of its own, answers as binary buffers.

import type { Ask } from "./http";
import { HttpSource } from "./http";
import { abortError } from "./source";

/** What anywidget gives: the model of a widget, of which we use the custom messages. */
export interface Model {
  send(content: unknown): void;
  on(event: "msg:custom", listener: (content: unknown, buffers: DataView[]) => void): void;
  off(event: "msg:custom", listener: (content: unknown, buffers: DataView[]) => void): void;
}

/** An answer, or the kernel asking whether any view is left; anything else says that it hears. */
interface Answer {
  id?: string;
  error?: string;
  anyone?: boolean;
}

interface Pending {
  resolve(response: Response): void;
  reject(error: Error): void;
}

const SILENCE_MS = 2500;
const WAITING = "Waiting for the kernel: it answers when it is done with what it runs. If it has stopped, run this cell again.";

/** One view of a widget, talking to the kernel. Every view of the same widget hears all answers and takes its own. */
export class Messages {
  private readonly name = Math.random().toString(36).slice(2);
  private readonly pending = new Map<string, Pending>();
  private asked = 0;
  private told = false;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private readonly hear = (content: unknown, buffers: DataView[]) => this.take(content as Answer, buffers);

  /** `tell` hears a sentence when a kernel that was asked gives no sign of life, and null when it does again. */
  constructor(private readonly model: Model, private readonly tell: (sentence: string | null) => void) {
    model.on("msg:custom", this.hear);
    model.send({ open: true });
  }

  /** A question may take its time; a kernel that hears says at once that it is there. */
  private watch(): void {
    this.silence ??= setTimeout(() => {
      this.model.send({ open: true });
      this.silence = setTimeout(() => {
        this.told = true;
        this.tell(WAITING);
      }, SILENCE_MS);
    }, SILENCE_MS);
  }

  private unwatch(): void {
    clearTimeout(this.silence);
    this.silence = undefined;
  }

  /** A question as `HttpSource` writes it, `api/documents/ID/row?call=0&...`. */
  readonly ask: Ask = (url, init = {}) => {
    const [path = "", search = ""] = url.split("?");
    const question = path.split("/")[3] ?? "document";
    const id = `${this.name}.${this.asked++}`;
    const { signal } = init;
    return new Promise<Response>((resolve, reject) => {
      if (signal?.aborted) return reject(abortError());
      this.pending.set(id, { resolve, reject });
      signal?.addEventListener("abort", () => this.cancel(id), { once: true });
      this.model.send({ id, question, parameters: [...new URLSearchParams(search)] });
      this.watch();
    });
  };

  source(): HttpSource {
    return new HttpSource("", "widget", this.ask);
  }

  private take({ id = "", error, anyone }: Answer, buffers: DataView[]): void {
    if (anyone) this.model.send({ open: true });
    this.unwatch();
    if (this.told) this.tell(null);
    this.told = false;
    const pending = this.pending.get(id);
    this.pending.delete(id);
    if (this.pending.size) this.watch();
    if (!pending) return; // another view's, or no longer wanted
    if (error !== undefined) pending.reject(new Error(error));
    else pending.resolve(new Response(buffers[0] as DataView<ArrayBuffer>));
  }

  private cancel(id: string): void {
    const pending = this.pending.get(id);
    if (!pending) return;
    this.pending.delete(id);
    pending.reject(abortError());
    this.model.send({ cancel: id });
  }

  /** Says that this view is gone: after the last one the kernel closes the widget. */
  close(): void {
    this.unwatch();
    this.model.off("msg:custom", this.hear);
    for (const { reject } of this.pending.values()) reject(abortError());
    this.pending.clear();
    try {
      this.model.send({ open: false });
    } catch {
      // The kernel is gone already.
    }
  }
}
