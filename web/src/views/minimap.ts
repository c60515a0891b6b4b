// The whole map in a corner of its part, with the part that is seen; to be dragged.

import { INK } from "../color";
import type { Theme } from "../color";
import { el, sizeCanvas } from "../dom";
import type { Box } from "../tiling";

const SIDE = 96;

export class Minimap {
  readonly element = el("canvas", { class: "fv-mini", "aria-hidden": "true", width: SIDE, height: SIDE });
  private rows = 1;
  private columns = 1;

  /** `go` moves the middle of the view. */
  constructor(private readonly go: (row: number, column: number) => void) {
    this.element.classList.add("fv-off");
    const move = (event: PointerEvent) => {
      const box = this.element.getBoundingClientRect();
      this.go(((event.clientY - box.top) / box.height) * this.rows, ((event.clientX - box.left) / box.width) * this.columns);
    };
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      move(event);
    });
    this.element.addEventListener("pointermove", (event) => {
      if (this.element.hasPointerCapture(event.pointerId)) move(event);
    });
  }

  /** Shown where only a part of the map is in sight; `picture` is the whole, null while it is not here. */
  draw(picture: CanvasImageSource | null, box: Box, rows: number, columns: number, theme: Theme): void {
    [this.rows, this.columns] = [rows, columns];
    const whole = (box.r1 - box.r0) * (box.c1 - box.c0) > 0.8 * rows * columns;
    this.element.classList.toggle("fv-off", whole || !picture);
    if (whole || !picture) return;
    const longest = Math.max(rows, columns);
    const [width, height] = [Math.max(8, (SIDE * columns) / longest), Math.max(8, (SIDE * rows) / longest)];
    const context = sizeCanvas(this.element, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    const [x, y] = [(box.c0 / columns) * width, (box.r0 / rows) * height];
    const [w, h] = [Math.max(4, ((box.c1 - box.c0) / columns) * width), Math.max(4, ((box.r1 - box.r0) / rows) * height)];
    context.fillStyle = INK[theme].mark;
    context.globalAlpha = 0.22;
    context.fillRect(x, y, w, h);
    context.globalAlpha = 1;
    context.strokeStyle = INK[theme].mark;
    context.lineWidth = 1.5;
    context.strokeRect(Math.min(x, width - w) + 0.5, Math.min(y, height - h) + 0.5, w - 1, h - 1);
  }
}
