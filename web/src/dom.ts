// Elements without markup: text only ever becomes text nodes, so no token can become an element.

type Handler = (event: never) => void;
type Attributes = Record<string, string | number | boolean | Handler | null | undefined>;
type Child = Node | string | null | undefined | false;

const SVG = "http://www.w3.org/2000/svg";

function dress(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child) element.append(child);
}

/** An HTML element; attributes that are functions are event handlers. */
export function el<T extends keyof HTMLElementTagNameMap>(tag: T, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[T] {
  const element = document.createElement(tag);
  dress(element, attributes, children);
  return element;
}

export function svg<T extends keyof SVGElementTagNameMap>(tag: T, attributes: Attributes = {}, ...children: Child[]): SVGElementTagNameMap[T] {
  const element = document.createElementNS(SVG, tag);
  dress(element, attributes, children);
  return element;
}

/** Sets an attribute only where it differs. */
export function put(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** A canvas of so many CSS pixels, sharp on this screen; its context draws in CSS pixels. */
export function sizeCanvas(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const ratio = Math.max(1, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** A weight as people read it: two decimals, three where it is small, four or more when asked to be exact. */
export function number(value: number | null | undefined, exact = false): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (exact) return signed(size && size < 5e-5 ? value.toExponential(1) : value.toFixed(4));
  if (value > 0 && size < 5e-4) return "<0.001";
  return signed(value.toFixed(size && size < 0.01 ? 3 : 2));
}

/** A probability as people read it. */
export function percent(value: number): string {
  const part = 100 * value;
  if (!Number.isFinite(part)) return "–";
  return `${part > 0 && part < 0.1 ? (part < 0.01 ? "<0.01" : part.toFixed(2)) : part < 10 || (part > 99 && part < 99.95) ? part.toFixed(1) : part.toFixed(0)} %`;
}

/** A number of any size in little room. */
export function brief(value: number): string {
  const size = Math.abs(value);
  if (size >= 0.01 && size < 1e4) return signed(value.toFixed(size < 100 ? 2 : 0));
  return size ? signed(value.toExponential(1)) : "0";
}

function signed(text: string): string {
  return text.replaceAll("-", "−");
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/;

/** A word, cut where it would overflow a sentence. */
export function clip(text: string, most = 24): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** A word in quotes, cut like that. */
export function quote(text: string, most = 24): string {
  const cut = clip(text, most);
  return `“${RIGHT_TO_LEFT.test(cut) ? `\u2068${cut}\u2069` : cut}”`; // isolated, so that it cannot turn the sentence around
}

/** Runs the last of many calls in the next frame. */
export function framed(work: () => void): () => void {
  let due = 0;
  return () => {
    if (due) return;
    due = requestAnimationFrame(() => {
      due = 0;
      work();
    });
  };
}
