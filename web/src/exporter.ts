// The picture on the screen as a file: SVG with every colour written in, PNG with the map beside it.

import { alpha, headColor, INK } from "./color";
import { clip, number, svg } from "./dom";
import { FONT, within } from "./layout";
import type { Layout, Placed } from "./layout";
import type { Session } from "./session";
import { numbersOf, overlayOf, tint, VEIL } from "./overlay";
import { boxOf } from "./picturelayout";
import type { Frame } from "./picturelayout";
import { boost, figures, flows, lines, shade } from "./views/lines";
import { headName } from "./views/sentences";
import { strongest } from "./weights";

const HEAD = 54;
const SCALE = 2;
/** Of a longer text the picture holds what is in sight. */
const TALLEST = 1400;

interface Band {
  top: number;
  bottom: number;
}

function words(session: Session, layout: Layout, placed: Placed, band: Band): SVGElement[] {
  const { shown, weights, heads, theme, state, active } = session;
  const ink = INK[theme];
  const target = shown && (shown.direction === "reads" ? layout.key : layout.query);
  const source = active && (active.direction === "reads" ? layout.query : layout.key);
  const lift = flows(layout) ? boost(session) : 1;
  const result: SVGElement[] = [];
  const [first, last] = within(placed, band.top, band.bottom);
  for (let p = first; p < last; p++) {
    const unit = placed.shown[p] as number;
    if (!session.written(placed.axis, unit)) continue;
    const [x, y, w] = [placed.x[p] as number, placed.y[p] as number, placed.w[p] as number];
    const chosen = placed === source && unit === active?.unit;
    const look = weights && placed === target ? strongest(weights, heads, unit) : null;
    const opacity = look ? shade(look.weight, lift) : 0;
    if (chosen || opacity) {
      const color = state.all && look ? headColor(theme, look.head) : ink.accent;
      const fill = opacity ? alpha(color, opacity) : "none";
      result.push(svg("rect", { x, y, width: w, height: placed.h, rx: 5, fill, stroke: chosen ? ink.accent : "none", "stroke-width": 1.5 }));
    }
    const muted = placed.axis.special[unit];
    result.push(svg("text", {
      x: x + w / 2, y: y + placed.h / 2 + layout.font * 0.35, "text-anchor": "middle", "font-size": layout.font,
      fill: muted ? ink.muted : ink.text, "font-weight": chosen ? 600 : 400,
    }, session.textOf(placed.axis, unit) || "·"));
  }
  return result;
}

/** The picture whose parts are looked at or look, as `views/picture.ts` has it on the screen. */
function parts(session: Session, frame: Frame): SVGElement {
  const { theme, active } = session;
  const { x, y, width, height, picture: { png, width: pixels, rows, columns }, first, side } = frame;
  const group = svg("g", { transform: `translate(${x} ${y})` });
  const look = width / pixels < 2 ? {} : { "image-rendering": "pixelated" };
  group.append(svg("image", { href: `data:image/png;base64,${png}`, width, height, preserveAspectRatio: "none", ...look }));
  const overlay = overlayOf(session, frame);
  if (overlay) {
    const { color, opacity } = VEIL[theme];
    group.append(svg("rect", { width, height, fill: `rgb(${color.join(",")})`, "fill-opacity": opacity }));
    overlay.weights.forEach((weight, part) => {
      const [red, green, blue, strength] = tint(weight, overlay.peak, theme);
      if (strength > 0.01) group.append(svg("rect", { ...boxOf(frame, first + part), fill: `rgb(${red},${green},${blue})`, "fill-opacity": strength.toFixed(3), "shape-rendering": "crispEdges", "data-weight": weight.toPrecision(7) }));
    });
    for (const { x: middle, y: down, text, dark } of numbersOf(overlay, frame, theme)) {
      const ink = { fill: dark ? "#14121f" : "#ffffff", stroke: dark ? "#ffffff" : "#100e1c", "stroke-width": 3, "stroke-opacity": 0.6, "stroke-linejoin": "round", "paint-order": "stroke" };
      group.append(svg("text", { x: middle, y: down + 4, "text-anchor": "middle", "font-size": 12, "font-weight": 600, ...ink }, text));
    }
  }
  const looks = active && (side === "both" || side === (active.direction === "reads" ? "query" : "key")) ? active.unit - first : -1;
  if (looks >= 0 && looks < rows * columns) group.append(svg("rect", { ...boxOf(frame, first + looks), fill: "none", stroke: INK[theme].accent, "stroke-width": 2.5 }));
  return group;
}

/** The line picture as an SVG element of its own. */
export function picture(session: Session, layout: Layout, scrollTop: number, paneHeight: number): SVGSVGElement {
  const { theme, doc } = session;
  const ink = INK[theme];
  const band = layout.height > TALLEST ? { top: scrollTop, bottom: scrollTop + paneHeight } : { top: 0, bottom: layout.height };
  const height = band.bottom - band.top;
  const root = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: layout.width, height: height + HEAD, viewBox: `0 0 ${layout.width} ${height + HEAD}`, "font-family": FONT });
  const overlay = layout.frame && overlayOf(session, layout.frame);
  const title = clip(doc.message.replaceAll("->", "→") || doc.title, Math.floor(layout.width / 8));
  root.append(
    svg("title", {}, `${title} (${headName(session)})`),
    svg("rect", { width: layout.width, height: height + HEAD, fill: ink.panel }),
    svg("text", { x: 16, y: 24, "font-size": 14, "font-weight": 600, fill: ink.text }, title),
    svg("text", { x: 16, y: 43, "font-size": 12, fill: ink.muted }, [doc.model, headName(session), overlay && `full colour: ${number(overlay.peak)}`].filter(Boolean).join(" · ")),
  );
  const body = svg("g", { transform: `translate(0 ${HEAD - band.top})` });
  for (const line of lines(session, layout)) {
    body.append(svg("path", { d: line.d, fill: "none", stroke: line.color, "stroke-width": line.width.toFixed(2), "stroke-opacity": line.opacity.toFixed(3), "data-weight": line.weight.toPrecision(7) }));
  }
  for (const { text, x, y, anchor } of layout.captions) body.append(svg("text", { x, y, "text-anchor": anchor, "font-size": 12, fill: ink.muted }, text));
  if (layout.frame) body.append(parts(session, layout.frame));
  body.append(...words(session, layout, layout.query, band));
  if (layout.key !== layout.query) body.append(...words(session, layout, layout.key, band));
  for (const figure of figures(session, layout)) {
    body.append(svg("text", { x: figure.x, y: figure.y, "text-anchor": figure.anchor, "font-size": 11, fill: figure.strong ? ink.mark : ink.muted }, figure.text));
  }
  root.append(body);
  return root;
}

/** Characters that a token may hold and XML may not. */
const NOT_XML = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|\p{Cs}/gu;

export function svgText(root: SVGSVGElement): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(root).replace(NOT_XML, "\ufffd")}\n`;
}

export function download(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The line picture and the map side by side; the map comes at the same scale. */
export async function png(root: SVGSVGElement, draw: (scale: number) => HTMLCanvasElement, background: string): Promise<Blob> {
  const url = URL.createObjectURL(new Blob([svgText(root)], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const map = draw(SCALE);
    const [width, height] = [SCALE * Number(root.getAttribute("width")), SCALE * Number(root.getAttribute("height"))];
    const canvas = document.createElement("canvas");
    canvas.width = width + map.width + SCALE * 24;
    canvas.height = Math.max(height, map.height + SCALE * (HEAD + 16));
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    context.fillStyle = background;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, width, height);
    context.drawImage(map, width + SCALE * 8, SCALE * HEAD);
    return await new Promise<Blob>((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("this browser could not write the picture"))), "image/png");
    });
  } finally {
    URL.revokeObjectURL(url);
  }
}
