// Starts the page from its data block; `foveate.render` is the same component for any source and element.

import { App } from "./app";
import { EmbeddedSource } from "./embedded";
import { HttpHost } from "./http";
import type { PageData } from "./protocol";
import type { Source } from "./source";

export function render({ source, element }: { source: Source; element: HTMLElement }): { close(): void } {
  const app = new App(element, null);
  app.open(source).catch((error: unknown) => app.status.fail(error instanceof Error ? error.message : String(error)));
  return { close: () => app.close() };
}

export function boot(): void {
  const element = document.getElementById("foveate");
  const block = document.getElementById("foveate-data");
  if (!element || !block) return;
  const data = JSON.parse(block.textContent ?? "{}") as PageData;
  if (!("transport" in data)) {
    render({ source: new EmbeddedSource(data.document, data.calls, data.parts), element });
    return;
  }
  const host = new HttpHost();
  const app = new App(element, host);
  app.start(host).catch((error: unknown) => {
    app.status.progress(null, "");
    app.status.fail(error instanceof Error ? error.message : String(error));
  });
}

Object.assign(globalThis, { foveate: { render, EmbeddedSource } });
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", boot);
else boot();
