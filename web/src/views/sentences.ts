// What is seen, in words: for the line above the picture, and for people who listen to the page.

import { clip, number, percent, quote } from "../dom";
import { numberOf, type Call, type Doc } from "../protocol";
import type { Session } from "../session";
import { named, partOf, tokensOf } from "../units";
import { meanWeight } from "../weights";

/** "it" looks at: cat 0.81, was 0.07, tired 0.03 */
export function describeActive(session: Session, length = 5): { who: string; verb: string; list: [string, number][] } | null {
  const { shown, weights, heads, state } = session;
  if (!shown || !weights) return null;
  const { from, to } = session.sides(shown.direction);
  const most = to.grid ? length >> 1 : length; // names of parts are long
  const open = (unit: number) => state.special || !to.special[unit];
  let ranked: [number, number][];
  if (heads.length === 1) ranked = weights.top(heads[0] as number, most, open);
  else {
    const candidates = new Set(heads.flatMap((head) => weights.top(head, most, open).map(([unit]) => unit)));
    ranked = Array.from(candidates, (unit) => [unit, meanWeight(weights, heads, unit)] as [number, number]).sort((a, b) => b[1] - a[1]).slice(0, most);
  }
  return {
    who: partOf(from, shown.unit) ? capital(named(from, shown.unit)) : quote(session.textOf(from, shown.unit)),
    verb: shown.direction === "reads" ? "looks at" : "is looked at by",
    list: ranked.filter(([, weight], n) => weight >= 0.005 || n === 0 || weight >= ranked[0][1] / 4).map(([unit, weight]) => [partOf(to, unit) ? named(to, unit) : clip(to.text[unit] ?? ""), weight]),
  };
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** A call, and which of its heads, if it has several. */
export function headOf(call: Call, head: number): string {
  const { label, name, heads, numbers } = call;
  return `${label || name}${heads > 1 || numbers ? `, head ${numberOf(call, head)}` : ""}`;
}

export function headName(session: Session): string {
  const { call, state } = session;
  const label = call.label || call.name;
  if (state.all && call.heads > 1) return `${label}, ${session.heads.length === call.heads ? "all heads" : `${session.heads.length} of ${call.heads} heads`} (mean)`;
  return headOf(call, state.head);
}

/** What came out at the step that is shown; its probability where that is known. Nothing where the text ends. */
export function cameOut(session: Session): { text: string; probability: number | null } | null {
  const { step, writing, doc, state } = session;
  if (!step) return null;
  const chosen = step.alternatives[step.chosen];
  if (chosen) return chosen;
  const texts = doc.sequences[state.sequence];
  const text = texts && tokensOf(texts, writing.side).text[step.token + (writing.own ? 1 : 0)];
  return text === undefined ? null : { text, probability: null };
}

/** Where the reader is among the steps, what came out there, and how probable it was. */
export function stepName(session: Session): string {
  const { step, stops, state, writing, doc } = session;
  if (!step) return "";
  const came = cameOut(session);
  const written = came ? [quote(came.text), ...(came.probability === null ? [] : [percent(came.probability)])].join(", ") : "";
  const at = `Step ${stops.indexOf(state.step as number) + 1} of ${stops.length}`;
  if (!writing.own) return `${at}: ${written}`;
  const token = tokensOf(doc.sequences[state.sequence] as Doc["sequences"][number], writing.side).text[step.token] ?? "";
  return `${at}: ${quote(token)}${written && `; then ${written}`}`;
}

export function spoken(session: Session): string {
  const seen = describeActive(session);
  if (!seen) return "No word selected.";
  const list = seen.list.map(([text, weight]) => `${text} ${number(weight)}`).join(", ");
  return `${session.step ? `${stepName(session)}. ` : ""}${seen.who} ${seen.verb}: ${list || "nothing"}. ${headName(session)}.`;
}
