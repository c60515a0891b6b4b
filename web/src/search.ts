// All places where something stands in a text of tokens: upper and lower case alike, across sub-words, words and punctuation.

import type { Tokens } from "./protocol";

/** Tokens first .. last hold what was looked for. */
export interface Hit {
  first: number;
  last: number;
}

const LETTER_END = /[\p{L}\p{N}\p{M}]$/u;
const LETTER_START = /^[\p{L}\p{N}\p{M}]/u;
const MARGIN = /\s+(?=[^\p{L}\p{N}\p{M}\s])|(?<=[^\p{L}\p{N}\p{M}\s])\s+/gu;

/** As it is compared: one space between two words, none beside punctuation. */
export function folded(text: string): string {
  return text.toLowerCase().replace(/\s+/g, " ").replace(MARGIN, "");
}

/** The places of a text can be looked for any number of times; to prepare it takes one pass. */
export class Finder {
  private readonly text: string;
  /** Where each token begins in `text`. */
  private readonly starts: Int32Array;

  constructor(tokens: Tokens) {
    const parts: string[] = [];
    const starts = new Int32Array(tokens.text.length + 1);
    let length = 0;
    let letter = false; // the last character may need a space behind it
    tokens.text.forEach((raw, i) => {
      const token = tokens.special[i] ? "" : folded(raw).trim();
      const apart = i > 0 && (tokens.word[i] !== tokens.word[i - 1] || /^\s/.test(raw));
      const part = apart && letter && LETTER_START.test(token) ? ` ${token}` : token;
      starts[i] = length + part.length - token.length;
      parts.push(part);
      length += part.length;
      if (token) letter = LETTER_END.test(token);
    });
    starts[tokens.text.length] = length;
    this.text = parts.join("");
    this.starts = starts;
  }

  /** In the order of the text, without overlaps. */
  find(what: string): Hit[] {
    const wanted = folded(what).trim();
    const found: Hit[] = [];
    if (!wanted) return found;
    for (let at = this.text.indexOf(wanted); at >= 0; at = this.text.indexOf(wanted, at + wanted.length)) {
      found.push({ first: this.tokenAt(at), last: this.tokenAt(at + wanted.length - 1) });
    }
    return found;
  }

  /** The token that holds a character; of several that begin there (empty ones come first) the last. */
  private tokenAt(character: number): number {
    let [low, high] = [0, this.starts.length - 2];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] as number) <= character) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The first hit at or behind a token, or the first of all. */
export function nextHit(hits: readonly Hit[], token: number): number {
  const found = hits.findIndex(({ first }) => first >= token);
  return Math.max(0, found);
}
