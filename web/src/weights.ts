// The weights of the word being looked at, dense or only the largest, behind one shape.

import type { Row, TopK } from "./protocol";

export interface Weights {
  heads: number;
  length: number;
  /** Less than 1 while there may be more to come. */
  refined: number;
  /** What the weights of a head that were not asked for add up to. */
  rest(head: number): number;
  /** The weight of one head at one unit; NaN where it was not asked for. */
  at(head: number, unit: number): number;
  /** The largest weights of one head, largest first. */
  top(head: number, count: number, among?: (unit: number) => boolean): [unit: number, weight: number][];
}

/** The largest positive entries, largest first; of equal ones the first. */
export function largest(row: ArrayLike<number>, count: number, among: (unit: number) => boolean): [number, number][] {
  const found: [number, number][] = [];
  let bar = 0;
  for (let unit = 0; unit < row.length; unit++) {
    const weight = row[unit] as number;
    if (!(weight > bar) || !among(unit)) continue;
    let at = found.length;
    while (at > 0 && (found[at - 1] as [number, number])[1] < weight) at--;
    found.splice(at, 0, [unit, weight]);
    if (found.length > count) found.pop();
    if (found.length === count) bar = (found[count - 1] as [number, number])[1];
  }
  return found;
}

const ALL = () => true;

export function denseWeights({ heads, length, weights, refined = 1 }: Row): Weights {
  return {
    heads,
    length,
    refined,
    rest: () => 0,
    at: (head, unit) => weights[head * length + unit] as number,
    top: (head, count, among = ALL) => largest(weights.subarray(head * length, (head + 1) * length), count, among),
  };
}

export function sparseWeights({ indices, weights, rest, refined = 1 }: TopK, length: number): Weights {
  const maps = indices.map((units, head) => new Map(units.map((unit, i) => [unit, (weights[head] as number[])[i] as number])));
  return {
    heads: indices.length,
    length,
    refined,
    rest: (head) => rest[head] ?? NaN,
    at: (head, unit) => maps[head]?.get(unit) ?? NaN,
    top: (head, count, among = ALL) => Array.from(maps[head] ?? []).filter(([unit, weight]) => weight > 0 && among(unit)).slice(0, count),
  };
}

/** The answer of a source that was asked about one head, as that head of all. */
export function ofHead(weights: Weights, head: number): Weights {
  const mine = (asked: number) => asked === head;
  return {
    ...weights,
    rest: (asked) => (mine(asked) ? weights.rest(0) : NaN),
    at: (asked, unit) => (mine(asked) ? weights.at(0, unit) : NaN),
    top: (asked, count, among) => (mine(asked) ? weights.top(0, count, among) : []),
  };
}

/** The mean over some heads, for the shade behind a word. */
export function meanWeight(weights: Weights, heads: number[], unit: number): number {
  let sum = 0;
  for (const head of heads) sum += weights.at(head, unit) || 0;
  return heads.length ? sum / heads.length : 0;
}

/** Which of some heads looks at a unit hardest. */
export function strongest(weights: Weights, heads: number[], unit: number): { head: number; weight: number } {
  let best = { head: heads[0] ?? 0, weight: 0 };
  for (const head of heads) {
    const weight = weights.at(head, unit) || 0;
    if (weight > best.weight) best = { head, weight };
  }
  return best;
}
