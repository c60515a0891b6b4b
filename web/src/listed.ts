// A call of which a static page holds the largest weights of each row alone.

import type { Parts } from "./blob";
import type { ListedCall } from "./protocol";

export class Listed {
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  private readonly allQueries: number;
  private readonly k: number;

  static async open(call: ListedCall, parts: Parts, sequence: number): Promise<Listed> {
    const { places, weights, rest } = call.top;
    return new Listed(call, await parts.places(places), await parts.floats(weights), await parts.floats(rest), sequence);
  }

  private constructor(call: ListedCall, private readonly places: Int32Array, private readonly kept: Float32Array, private readonly others: Float32Array, private readonly sequence: number) {
    [, this.heads, this.allQueries, this.k] = call.top.places.shape as [number, number, number, number];
    [this.queries, this.keys] = call.lengths[sequence] as [number, number];
  }

  private rowAt(head: number, i: number): number {
    return (this.sequence * this.heads + head) * this.allQueries + i;
  }

  /** Weights of row i for keys from..to-1 into out[0 ..]; NaN where the page does not hold it, 0 where the row has no others. */
  weights(head: number, i: number, from: number, to: number, out: Float64Array): void {
    out.fill(this.rest(head, i) > 0 ? NaN : 0, 0, to - from);
    const at = this.rowAt(head, i) * this.k;
    for (let n = at; n < at + this.k; n++) {
      const key = this.places[n] as number;
      const weight = this.kept[n] as number;
      if (weight > 0 && key >= from && key < to) out[key - from] = weight;
    }
  }

  /** What the weights that are not here add up to. */
  rest(head: number, i: number): number {
    return this.others[this.rowAt(head, i)] as number;
  }
}
