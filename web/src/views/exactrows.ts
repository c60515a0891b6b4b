// Rows of exact weights of a long text, for the numbers that are printed in its map: a few at a time, of one head.

import { aborted, Cache } from "../source";
import type { Source } from "../source";

const AT_ONCE = 2;
const KEPT = 96;
/** An answer of more numbers than this is not asked for. */
const MOST = 2 ** 20;

export interface RowsOf {
  call: number;
  sequence: number;
  head: number;
  heads: number;
  keys: number;
}

export class ExactRows {
  private readonly rows = new Cache<Float32Array | Promise<void>>(KEPT);
  private pending = 0;

  constructor(private readonly source: Source, private readonly changed: () => void) {}

  /** The row of a query, where it is here; else it is asked for. */
  get({ call, sequence, head, heads, keys }: RowsOf, index: number): Float32Array | null {
    const name = [call, sequence, head, index].join();
    const present = this.rows.get(name);
    if (present) return present instanceof Promise ? null : present;
    const one = Boolean(this.source.oneHead);
    if (this.pending >= AT_ONCE || keys * (one ? 1 : heads) > MOST) return null; // with room, the next frame asks again
    this.pending++;
    const asked = this.source.row({ call, sequence, index, direction: "reads", level: "token", ...(one ? { head } : {}) }).then(
      ({ heads: answered, length, weights }) => {
        const at = answered > 1 ? head * length : 0;
        this.rows.set(name, weights.slice(at, at + length));
      },
      (error: unknown) => {
        if (aborted(error)) this.rows.delete(name); // one that failed is not asked for again
      },
    );
    this.rows.set(name, asked);
    void asked.then(() => {
      this.pending--;
      this.changed();
    });
    return null;
  }
}
