// What the page can do, and its keys.

import { el } from "../dom";

const KEYS: [string, string][] = [
  ["Point at a word", "lines to every word it looks at; the number of each"],
  ["Click, Enter or Space", "lock the word; then point at the other words for their numbers"],
  ["Esc", "unlock"],
  ["← ↑ ↓ →", "move to the next word, head or cell"],
  ["Over a picture", "a word or a part colours the parts it looks at; point at a part for its number; o shows the bare picture"],
  ["Play, ‹ and ›", "a translation word by word, as it was written; then ← and → go from step to step, Esc shows all"],
  ["Tab", "from one part of the page to the next"],
  ["h", "one head or all heads"],
  ["d", "where it looks, or who looks at it"],
  ["[ and ]", "layer before, layer after"],
  [", and .", "head before, head after"],
  ["f", "find a head by what it does"],
  ["w", "whole words or sub-words"],
  ["s", "special tokens on or off"],
  ["+  −  0", "zoom the map, or show all of it (wheel and drag work too)"],
  ["/ or Ctrl+F", "in a long text: search; then Enter and Shift+Enter go from place to place, Row and Column to the map"],
  ["The map of a long text", "wheel, pinch, double click or + and − zoom where you point, drag or arrows move it, Shift+arrows move the crosshair, Enter goes to the chosen place, 0 shows all"],
  ["The list of passages", "↑ and ↓ choose, Enter jumps there"],
  ["t", "light or dark"],
  ["?", "this help"],
];

export function helpDialog(): HTMLDialogElement {
  const close = el("button", { type: "button", class: "fv-small", "aria-label": "Close help" }, "×");
  const dialog = el("dialog", { class: "fv-help", "aria-label": "Help" },
    el("div", { class: "fv-head" }, el("h2", {}, "How to look"), close),
    el("p", {}, "Each word compares its query with the keys of all words. The weights of one word sum to 1: a thick line means much, a hair next to nothing. They are computed exactly from the recorded queries and keys. They show where a model looks, not by themselves why it answers."),
    el("dl", {}, ...KEYS.map(([key, text]) => el("div", {}, el("dt", {}, key), el("dd", {}, text)))));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
