// Heads that do the same: average linkage (UPGMA) on 1 - agreement.

export interface Merge { left: number; right: number; agreement: number }   // leaves are 0 .. n-1, the k-th merge is n + k

/** All merges, the most alike first; `null` means that two heads cannot be compared. */
export function linkage(agreement: (number | null)[][]): Merge[] {
  const n = agreement.length;
  const near = agreement.map((row) => Float64Array.from(row, (x) => x ?? -1));
  const id = Array.from({ length: n }, (_, at) => at);
  const size = new Array<number>(n).fill(1);
  const alive = new Set(id);
  const merges: Merge[] = [];
  while (alive.size > 1) {
    let [a, b, best] = [-1, -1, -2];
    const left = [...alive];
    for (let i = 0; i < left.length; i++) {
      const row = near[left[i]!]!;
      for (let j = i + 1; j < left.length; j++) if (row[left[j]!]! > best) [a, b, best] = [left[i]!, left[j]!, row[left[j]!]!];
    }
    merges.push({ left: id[a]!, right: id[b]!, agreement: best });
    for (const c of alive) {
      if (c === a || c === b) continue;
      const apart = near[a]![c]! < 0 || near[b]![c]! < 0;   // in one class with all, or with none
      const mean = apart ? -1 : (near[a]![c]! * size[a]! + near[b]![c]! * size[b]!) / (size[a]! + size[b]!);
      near[a]![c] = near[c]![a] = mean;
    }
    size[a]! += size[b]!;
    id[a] = n + merges.length - 1;
    alive.delete(b);
  }
  return merges;
}

/** Leaves in the order of the tree: what is alike stands together. */
export function ordered(n: number, merges: Merge[]): number[] {
  const below = (at: number): number[] => {
    const out: number[] = [];
    const stack = [at];
    while (stack.length) {
      const one = stack.pop()!;
      if (one < n) out.push(one);
      else stack.push(merges[one - n]!.right, merges[one - n]!.left);
    }
    return out;
  };
  return merges.length ? below(n + merges.length - 1) : Array.from({ length: n }, (_, at) => at);
}

/** Groups of heads that agree by `least` or more on average, the largest first; heads alone are left out. */
export function clusters(n: number, merges: Merge[], least: number): number[][] {
  const groups = new Map<number, number[]>(Array.from({ length: n }, (_, at) => [at, [at]]));
  merges.forEach(({ left, right, agreement }, at) => {
    const [a, b] = [groups.get(left), groups.get(right)];
    if (agreement < least || !a || !b) return;
    groups.delete(left);
    groups.delete(right);
    groups.set(n + at, [...a, ...b].sort((x, y) => x - y));
  });
  return [...groups.values()].filter((group) => group.length > 1).sort((a, b) => b.length - a.length || a[0]! - b[0]!);
}
