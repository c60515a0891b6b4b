// The field that searches a long text: n of m, from one place to the next, and to the map.

import { el, put, say } from "../dom";

export interface Search {
  /** Another text to look for. */
  look(text: string): void;
  step(by: number): void;
  /** To the row, or the column, of the place that is shown. */
  go(what: "row" | "column"): void;
  /** The reader is done. */
  leave(): void;
}

export class SearchBar {
  readonly element: HTMLElement;
  private readonly input = el("input", { type: "search", class: "fv-search-field", "aria-label": "Search the text", placeholder: "Search the text ( / )", spellcheck: "false", autocomplete: "off", maxlength: 200 });
  private readonly count = el("output", { class: "fv-search-count", "aria-live": "polite" });
  private readonly buttons: HTMLButtonElement[];

  constructor(search: Search) {
    const button = (text: string, label: string, act: () => void) => el("button", { type: "button", class: "fv-small", "aria-label": label, title: label, click: act }, text);
    this.buttons = [
      button("‹", "Place before (Shift+Enter)", () => search.step(-1)), button("›", "Next place (Enter)", () => search.step(1)),
      button("Row", "Show its row in the map: what it reads", () => search.go("row")), button("Column", "Show its column in the map: what reads it", () => search.go("column")),
    ];
    this.element = el("div", { class: "fv-search", role: "search" }, this.input, this.count, ...this.buttons);
    this.input.addEventListener("input", () => search.look(this.input.value));
    this.input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") search.step(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") search.leave();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.show("", 0, 0);
  }

  focus(): void {
    this.input.focus();
    this.input.select();
  }

  show(text: string, at: number, all: number): void {
    if (this.input.value !== text) this.input.value = text;
    const sought = Boolean(text.trim());
    say(this.count, !sought ? "" : all ? `${(at + 1).toLocaleString("en")} of ${all.toLocaleString("en")}` : "not found");
    put(this.element, "data-found", sought ? String(all > 0) : "");
    for (const button of this.buttons) button.disabled = !all;
  }
}
