// A picture whose parts are what words, or its other parts, look at: one canvas, and an element only for the parts that are marked.

import { INK } from "../color";
import { el, framed, number, put, say, sizeCanvas } from "../dom";
import { FONT } from "../layout";
import { numbersOf, overlayOf, pixelsOf, tint, tinted, VEIL } from "../overlay";
import type { Overlay } from "../overlay";
import { boxOf } from "../picturelayout";
import type { Frame } from "../picturelayout";
import type { Active, Session } from "../session";
import { named } from "../units";
import { meanWeight } from "../weights";

type SideName = "query" | "key";

export class PictureView {
  private readonly canvas = el("canvas", { class: "fv-picture", "aria-hidden": "true" });
  /** What is known of the part that is pointed at, the scale, and the switch. */
  readonly foot: HTMLElement;
  private readonly readout = el("p", { class: "fv-partread" });
  private readonly scale = el("canvas", { class: "fv-scale", "aria-hidden": "true" });
  private readonly end = el("span");
  private readonly legend = el("span", { class: "fv-legend", title: "Full strength is the largest weight that any part has now" }, "0", this.scale, this.end);
  private readonly toggle = el("button", { type: "button", class: "fv-small fv-overlay", "aria-pressed": "true", title: "Weights over the picture, or the bare picture (o)", click: () => this.flip() }, "Weights");
  private readonly marks: Record<"chosen" | "other", HTMLElement> = {
    chosen: el("div", { class: "fv-part fv-chosen", role: "option", "aria-selected": "true" }),
    other: el("div", { class: "fv-part fv-other", role: "option", "aria-selected": "false" }),
  };
  private frame: Frame | null = null;
  private closed = false;
  private readonly draw = framed(() => this.drawNow());

  constructor(private readonly session: Session, private readonly listOf: (side: SideName) => HTMLElement) {
    this.foot = el("div", { class: "fv-foot fv-picture-foot" }, this.readout, el("div", { class: "fv-legend" }, this.legend, this.toggle));
  }

  close(): void {
    this.closed = true;
  }

  /** Weights or the bare picture. */
  flip(): void {
    this.session.bare = !this.session.bare;
    put(this.toggle, "aria-pressed", String(!this.session.bare));
    this.draw();
  }

  place(frame: Frame | null): void {
    this.frame = frame;
    this.foot.hidden = frame === null;
    for (const element of [this.canvas, ...Object.values(this.marks)]) element.remove();
    if (!frame) return;
    this.list(frame).prepend(this.canvas);
    this.canvas.style.left = `${frame.x}px`;
    this.canvas.style.top = `${frame.y}px`;
  }

  /** Follows the session. */
  update(): void {
    this.mark();
    this.draw();
  }

  /** The listbox that the parts belong to. */
  private list({ side }: Frame): HTMLElement {
    return this.listOf(side === "both" ? "query" : side);
  }

  private holds(side: SideName, unit: number): boolean {
    const { frame } = this;
    if (!frame || (frame.side !== "both" && frame.side !== side)) return false;
    const { rows, columns } = frame.picture;
    return unit >= frame.first && unit < frame.first + rows * columns;
  }

  /** Whether what is looked at is a part. */
  has(active: Active | null): boolean {
    return active !== null && this.holds(active.direction === "reads" ? "query" : "key", active.unit);
  }

  boxOf(active: Active | null): { y: number; height: number } | null {
    const { frame } = this;
    if (!frame || !active || !this.has(active)) return null;
    const { y, height } = boxOf(frame, active.unit);
    return { y: y + frame.y, height };
  }

  /** The part in the middle, on a side that has parts. */
  middle(side: SideName): number | null {
    const { frame } = this;
    if (!frame || !this.holds(side, frame.first)) return null;
    const { rows, columns } = frame.picture;
    return frame.first + (rows >> 1) * columns + (columns >> 1);
  }

  /** The outlines of the part that looks and of the one that the numbers are about. */
  private mark(): void {
    const { session: { active, state, shown }, marks, frame } = this;
    const other = this.session.hoveredOther ?? (state.locked ? state.other : null);
    const [from, to]: SideName[] = active?.direction === "read_by" ? ["key", "query"] : ["query", "key"];
    this.show(marks.chosen, from as SideName, active?.unit ?? null);
    this.show(marks.other, to as SideName, shown ? other : null);
    marks.chosen.classList.toggle("fv-locked", state.locked);
    if (frame) put(marks.chosen, "id", `fv-${frame.side === "both" ? "query" : frame.side}-${active?.unit}`);
  }

  private show(mark: HTMLElement, side: SideName, unit: number | null): void {
    const { frame, session } = this;
    if (!frame || unit === null || !this.holds(side, unit)) return mark.remove();
    const list = this.list(frame);
    if (mark.parentElement !== list) list.append(mark);
    const { x, y, width, height } = boxOf(frame, unit);
    mark.style.left = `${frame.x + x}px`;
    mark.style.top = `${frame.y + y}px`;
    mark.style.width = `${width}px`;
    mark.style.height = `${height}px`;
    put(mark, "data-part", String(unit));
    const weight = this.weightAt(side, unit);
    put(mark, "aria-label", `${named(session.axes[side], unit)}${weight === null ? "" : `, weight ${number(weight, true)}`}`);
  }

  /** What the word or part that looks gives to a unit; nothing on the side that looks itself. */
  private weightAt(side: SideName, unit: number): number | null {
    const { shown, weights, heads } = this.session;
    if (!shown || !weights || (shown.direction === "reads" ? "key" : "query") !== side) return null;
    return heads.some((head) => Number.isNaN(weights.at(head, unit))) ? null : meanWeight(weights, heads, unit);
  }

  private drawNow(): void {
    const { frame, session } = this;
    if (!frame || this.closed) return;
    const overlay = overlayOf(session, frame);
    const { width, height } = frame;
    const context = sizeCanvas(this.canvas, width, height);
    const pixels = pixelsOf(frame.picture, () => this.draw(), (error) => session.fail(error));
    if (pixels) {
      context.imageSmoothingEnabled = frame.width / frame.picture.width < 2;
      context.imageSmoothingQuality = "high";
      context.drawImage(pixels, 0, 0, width, height);
    }
    if (overlay) this.drawWeights(context, frame, overlay);
    this.tell(frame, overlay);
  }

  private drawWeights(context: CanvasRenderingContext2D, frame: Frame, overlay: Overlay): void {
    const { width, height, picture: { rows, columns } } = frame;
    const { theme } = this.session;
    const veil = VEIL[theme];
    context.fillStyle = `rgb(${veil.color.join(" ")} / ${veil.opacity})`;
    context.fillRect(0, 0, width, height);
    const small = new OffscreenCanvas(columns, rows);
    small.getContext("2d")?.putImageData(tinted(overlay, columns, rows, theme), 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, width, height);
    context.font = `600 12px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3;
    for (const { x, y, text, dark } of numbersOf(overlay, frame, theme)) {
      context.strokeStyle = dark ? "rgb(255 255 255 / 0.6)" : "rgb(16 14 28 / 0.6)";
      context.strokeText(text, x, y);
      context.fillStyle = dark ? "#14121f" : "#ffffff";
      context.fillText(text, x, y);
    }
  }

  /** The same in words, and on the scale. */
  private tell(frame: Frame, overlay: Overlay | null): void {
    const { session } = this;
    const { picture: { rows, columns }, first, side } = frame;
    const axis = session.axes[side === "query" ? "query" : "key"];
    const strongest = overlay && overlay.peak > 0 ? `; strongest: ${named(axis, first + overlay.strongest)}, ${number(overlay.peak, true)}` : "";
    put(this.list(frame), "aria-label", `Picture of ${rows} by ${columns} parts${strongest}`);
    put(this.canvas, "data-strongest", strongest && overlay ? String(first + overlay.strongest) : "");
    this.legend.hidden = !overlay;
    this.toggle.hidden = !overlay && !session.bare;
    if (overlay) this.drawScale(overlay.peak);
    this.describe();
  }

  private describe(): void {
    const { session } = this;
    const { active, other, shown } = session;
    if (!active || !shown || other === null) return say(this.readout, "Point at a word or a part of the picture");
    const { from, to } = session.sides(active.direction);
    const weight = this.weightAt(active.direction === "reads" ? "key" : "query", other);
    const [a, b] = [named(from, active.unit, 16), named(to, other, 16)];
    const [left, right] = active.direction === "reads" ? [a, b] : [b, a];
    const { kept } = session.call;
    say(this.readout, `${left} → ${right}  ${weight !== null ? number(weight, true) : kept ? `not among the ${kept} largest of this row, which this page holds` : "…"}`);
  }

  private drawScale(peak: number): void {
    const context = sizeCanvas(this.scale, 96, 8);
    const { theme } = this.session;
    const { color, opacity: thick } = VEIL[theme];
    const [red, green, blue] = color.map((part) => Math.round(part * thick + 150 * (1 - thick)));
    context.fillStyle = `rgb(${red}, ${green}, ${blue})`;
    context.fillRect(0, 0, 96, 8);
    for (let x = 0; x < 96; x++) {
      const [r, g, b, opacity] = tint(x / 95, 1, theme);
      context.fillStyle = `rgb(${r} ${g} ${b} / ${opacity})`;
      context.fillRect(x, 0, 1, 8);
    }
    context.strokeStyle = INK[this.session.theme].faint;
    context.strokeRect(0.5, 0.5, 95, 7);
    say(this.end, number(peak));
  }
}
