// Long computations in the page's own thread, in slices between which it stays usable.

import { abortError } from "./source";

const SLICE_MS = 10;

/** The page's turn; a timer would wait for milliseconds where this does not. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Gives the page its turn whenever a computation has run for a while. */
export class Breath {
  private since = performance.now();

  constructor(private readonly signal?: AbortSignal) {}

  async take(): Promise<void> {
    if (performance.now() - this.since < SLICE_MS) return;
    await turn();
    if (this.signal?.aborted) throw abortError();
    this.since = performance.now();
  }
}
