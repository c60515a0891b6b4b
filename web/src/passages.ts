// The largest weights of one row or column as passages: what stands together is one, with its weight added up.

export interface Passage {
  /** Units first .. last, which may hold a few in between that weigh nothing. */
  first: number;
  last: number;
  /** The sum over the units that are known. */
  weight: number;
  /** The largest of them. */
  peak: number;
  best: number;
  weights: Map<number, number>;
}

/** Units this far apart still stand together. */
const GAP = 3;
/** A weight smaller than this part of the largest does not join or make a passage. */
const LEAST = 0.01;

/** Passages out of (unit, weight) in any order, the heaviest first. */
export function passages(links: Iterable<readonly [number, number]>, most: number, gap = GAP): Passage[] {
  const all = Array.from(links).filter(([, weight]) => weight > 0);
  const largest = all.reduce((a, [, weight]) => Math.max(a, weight), 0);
  const known = all.filter(([, weight]) => weight >= LEAST * largest).sort((a, b) => a[0] - b[0]);
  const found: Passage[] = [];
  for (const [unit, weight] of known) {
    let last = found.at(-1);
    if (!last || unit - last.last > gap) {
      last = { first: unit, last: unit, weight: 0, peak: 0, best: unit, weights: new Map() };
      found.push(last);
    }
    last.last = unit;
    last.weight += weight;
    last.weights.set(unit, weight);
    if (weight > last.peak) [last.peak, last.best] = [weight, unit];
  }
  return found.sort((a, b) => b.weight - a.weight || a.first - b.first).slice(0, most);
}
