// What is seen, in words: for the line above the picture, and for people who listen to the page.

import { clip, number, quote } from "../dom";
import type { Session } from "../session";
import { meanWeight } from "../weights";

/** "it" looks at: cat 0.81, was 0.07, tired 0.03 */
export function describeActive(session: Session, most = 5): { who: string; verb: string; list: [string, number][] } | null {
  const { shown, weights, heads, state } = session;
  if (!shown || !weights) return null;
  const { from, to } = session.sides(shown.direction);
  const open = (unit: number) => state.special || !to.special[unit];
  let ranked: [number, number][];
  if (heads.length === 1) ranked = weights.top(heads[0] as number, most, open);
  else {
    const candidates = new Set(heads.flatMap((head) => weights.top(head, most, open).map(([unit]) => unit)));
    ranked = Array.from(candidates, (unit) => [unit, meanWeight(weights, heads, unit)] as [number, number]).sort((a, b) => b[1] - a[1]).slice(0, most);
  }
  return {
    who: quote(from.text[shown.unit] ?? ""),
    verb: shown.direction === "reads" ? "looks at" : "is looked at by",
    list: ranked.filter(([, weight], n) => weight >= 0.005 || n === 0 || weight >= ranked[0][1] / 4).map(([unit, weight]) => [clip(to.text[unit] ?? ""), weight]),
  };
}

export function headName(session: Session): string {
  const { call, state } = session;
  const label = call.label || call.name;
  if (state.all) return `${label}, ${session.heads.length === call.heads ? "all heads" : `${session.heads.length} of ${call.heads} heads`} (mean)`;
  return `${label}, head ${state.head}`;
}

export function spoken(session: Session): string {
  const seen = describeActive(session);
  if (!seen) return "No word selected.";
  const list = seen.list.map(([text, weight]) => `${text} ${number(weight)}`).join(", ");
  return `${seen.who} ${seen.verb}: ${list || "nothing"}. ${headName(session)}.`;
}
