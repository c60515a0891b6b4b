// What a report of a survey holds: a table of heads by column, as `foveate heads` writes it.

export interface Example {
  text: number; row: number; key: number; weight: number;
  query_token: string; key_token: string; around_query: string[]; around_key: string[]; at_query: number; at_key: number;
}

export interface Report {
  title: string;
  about: string;   // one line: of what, and how much
  notes: string[];
  heads: { module: string; layer: number | null; kind: string; head: number; call: number }[];
  measures: { name: string; about: string; values: (number | null)[]; errors: (number | null)[] }[];
  agreement: (number | null)[][] | null;
  examples: Example[][] | null;
}

/** A row of heads in the picture: one call of one module. */
export interface Line { label: string; module: string; heads: number[] }

/** The rows of the picture, in the order of the table. */
export function linesOf(report: Report): Line[] {
  const several = new Set(report.heads.map((head) => head.kind)).size > 1;
  const found: Line[] = [];
  let last = "";
  report.heads.forEach((head, at) => {
    const same = `${head.module} ${head.call}`;
    if (same !== last) {
      const layer = head.layer === null ? head.module : `layer ${head.layer}${head.call ? ` · ${head.call}` : ""}`;
      found.push({ label: several ? `${head.kind} ${layer}` : layer, module: head.module, heads: [] });
    }
    last = same;
    found[found.length - 1]!.heads.push(at);
  });
  return found;
}

/** How a head is called, everywhere the same: "3.5" is head 5 of layer 3. */
export function nameOf(report: Report, at: number): string {
  const { layer, head, kind, module } = report.heads[at]!;
  const several = new Set(report.heads.map((one) => one.kind)).size > 1;
  return `${several ? `${kind} ` : ""}${layer ?? module}.${head}`;
}
