// The page inside a cell of a notebook: what anywidget loads, as one module, and draws for every view of the widget.
// It lives in a shadow root, so that no style and no id of the notebook or of another widget meets its own.

import { App } from "./app";
import type { Theme } from "./color";
import { el } from "./dom";
import style from "./foveate.css";
import { Messages } from "./messages";
import type { Model } from "./messages";
import { aborted } from "./source";
import type { Surroundings } from "./surroundings";

/** A cell has no address and no title, hears only its own keys, and is as light or dark as what it lies on. */
class Cell implements Surroundings {
  hash = "";
  private chosen: Theme | null = null;
  private shown: Theme | null = null;

  constructor(readonly keys: HTMLElement, private readonly element: HTMLElement) {}

  setHash(hash: string): void {
    this.hash = `#${hash}`;
  }

  setTitle(): void {}

  theme(): Theme {
    if (this.chosen) return this.chosen;
    for (let at: Element | null = this.element; at; at = at.parentElement) {
      const light = lightness(getComputedStyle(at).backgroundColor);
      if (light !== null) return light < 0.5 ? "dark" : "light";
    }
    return "light";
  }

  setTheme(theme: Theme, chosen: boolean): void {
    this.shown = theme;
    if (chosen) this.chosen = theme;
  }

  /** Notebooks change their theme by an attribute of the page, or of its body. */
  follow(themed: () => void): () => void {
    const look = () => this.keys.isConnected && this.theme() !== this.shown && themed();
    const watcher = new MutationObserver(() => setTimeout(look, 100)); // when their styles are there
    for (const element of [document.documentElement, document.body]) watcher.observe(element, { attributes: true });
    const size = new ResizeObserver(look); // only when it is shown is there something that it lies on
    size.observe(this.element);
    return () => {
      watcher.disconnect();
      size.disconnect();
    };
  }
}

/** From 0, black, to 1, white; null for a colour that one looks through. */
function lightness(color: string): number | null {
  const [r, g = 0, b = 0, alpha = 1] = (color.match(/[\d.]+/g) ?? []).map(Number);
  return r === undefined || alpha < 0.5 ? null : (0.299 * r + 0.587 * g + 0.114 * b) / 255;
}

let sheet: CSSStyleSheet | null = null;

function styles(): CSSStyleSheet {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(style);
  }
  return sheet;
}

/** Plain keys inside the widget are its own, and none of the notebook's; Ctrl+S and its like stay the notebook's. */
function guardKeys(host: HTMLElement, root: HTMLElement): () => void {
  const plain = (event: KeyboardEvent) => !(event.ctrlKey || event.metaKey || event.altKey);
  const mark = (event: KeyboardEvent) => host.toggleAttribute("data-lm-suppress-shortcuts", plain(event)); // JupyterLab asks for it
  window.addEventListener("keydown", mark, true);
  root.addEventListener("keydown", (event) => plain(event) && event.stopPropagation());
  return () => window.removeEventListener("keydown", mark, true);
}

function render({ model, el: element }: { model: Model; el: HTMLElement }): () => void {
  const root = el("div", { class: "fv-inline" });
  const host = el("div");
  const shadow = host.attachShadow({ mode: "open" });
  shadow.adoptedStyleSheets = [styles()];
  shadow.append(root);
  element.append(host);
  const unguard = guardKeys(host, root);
  const app = new App(root, null, new Cell(root, element));
  const messages = new Messages(model, (sentence) => app.status.progress(sentence ? NaN : null, sentence ?? ""));
  app.open(messages.source()).catch((error: unknown) => {
    if (!aborted(error)) app.status.fail(error instanceof Error ? error.message : String(error));
  });
  return () => {
    unguard();
    app.close();
    messages.close();
    host.remove();
  };
}

export default { render };
