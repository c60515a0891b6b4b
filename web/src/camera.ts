// Which part of a long map is in sight: fitting, moving, zooming at a point. Pure geometry, in tokens and pixels.

import type { Box, Place } from "./tiling";
import { NAMED_FROM } from "./views/frame";
import type { View } from "./views/frame";

const MOST_PX = 56;
const LEAST_SIDE = 200;

/** The room of the axes around cells of so many pixels; the same for all cells that are named. */
export function room(px: number): { left: number; top: number; right: number } {
  return px >= NAMED_FROM[1] ? { left: 92, top: 84, right: 46 } : { left: 58, top: 24, right: 16 };
}

export class Camera {
  view: View = { r: 0, c: 0, px: 1, width: LEAST_SIDE, height: LEAST_SIDE, ...room(1) };
  private least = 1;
  private rows = 1;
  private columns = 1;

  /** Shows all of a map in so much room. */
  fit(rows: number, columns: number, width: number, tallest: number): void {
    const around = room(0);
    const px = Math.min((width - around.left - around.right) / Math.max(1, columns), (tallest - around.top - 2) / Math.max(1, rows), MOST_PX);
    const height = Math.ceil(Math.max(LEAST_SIDE, Math.min(tallest, around.top + px * rows + 2)));
    [this.rows, this.columns, this.least] = [rows, columns, px];
    this.view = { r: 0, c: 0, px, width, height, ...room(px) };
  }

  get box(): Box {
    const { view } = this;
    return {
      r0: view.r, r1: Math.min(this.rows, view.r + this.down),
      c0: view.c, c1: Math.min(this.columns, view.c + this.across),
    };
  }

  /** Rows and columns that there is room for. */
  private get down(): number {
    return (this.view.height - this.view.top - 2) / this.view.px;
  }

  private get across(): number {
    return (this.view.width - this.view.left - this.view.right) / this.view.px;
  }

  /** Whether all is in sight, and no less could be shown. */
  get whole(): boolean {
    return this.view.px <= this.least * 1.001;
  }

  get here(): Place {
    const { r0, r1, c0, c1 } = this.box;
    return { row: (r0 + r1) / 2, column: (c0 + c1) / 2, zoom: -Math.log2(this.view.px) };
  }

  /** The scale nearest to this that is allowed. */
  inside(px: number): number {
    return Math.max(this.least, Math.min(Math.max(MOST_PX, this.least), px));
  }

  /** Puts a place into the middle; null shows all. */
  go(place: Place | null): void {
    const { view } = this;
    view.px = this.inside(place ? 2 ** -place.zoom : 0);
    Object.assign(view, room(view.px));
    this.move((place?.row ?? 0) - this.down / 2, (place?.column ?? 0) - this.across / 2);
  }

  /** Puts row r and column c to the top left, as far as there is something to see. */
  move(r: number, c: number): void {
    this.view.r = Math.max(0, Math.min(this.rows - this.down, r));
    this.view.c = Math.max(0, Math.min(this.columns - this.across, c));
  }

  pan(dx: number, dy: number): void {
    this.move(this.view.r - dy / this.view.px, this.view.c - dx / this.view.px);
  }

  /** What is at (x, y) stays there. */
  zoom(by: number, x: number, y: number): void {
    const { view } = this;
    const [r, c] = [view.r + (y - view.top) / view.px, view.c + (x - view.left) / view.px];
    view.px = this.inside(view.px * by);
    Object.assign(view, room(view.px));
    this.move(r - (y - view.top) / view.px, c - (x - view.left) / view.px);
  }

  cellAt({ x, y }: { x: number; y: number }): { i: number; j: number } | null {
    const { view } = this;
    if (x < view.left || y < view.top || x > view.width - view.right) return null;
    const [i, j] = [Math.floor(view.r + (y - view.top) / view.px), Math.floor(view.c + (x - view.left) / view.px)];
    return i >= 0 && j >= 0 && i < this.rows && j < this.columns ? { i, j } : null;
  }
}
