// The small picture of a head, on whatever canvas.

import { paint } from "../color";
import type { Theme } from "../color";
import type { Thumbnails } from "../protocol";
import { partial } from "../source";

export function drawThumbnail(context: CanvasRenderingContext2D, pictures: Thumbnails, head: number, x: number, y: number, side: number, theme: Theme): void {
  const { size, pixels } = pictures;
  const small = new OffscreenCanvas(size, size);
  const peak = pictures.peak[head] as number;
  small.getContext("2d")?.putImageData(paint(pixels.subarray(head * size * size, (head + 1) * size * size), size, size, peak, peak, theme), 0, 0);
  context.imageSmoothingEnabled = size > side;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, x, y, side, side);
}

/** Of how many rows pictures or measures are, where they are not of all; empty where they are. */
export function sampled(answers: { measured?: number; rows?: number }[]): string {
  const least = answers.filter(partial).sort((a, b) => (a.measured ?? 0) - (b.measured ?? 0))[0];
  return least ? `${(least.measured ?? 0).toLocaleString("en")} of ${(least.rows ?? 0).toLocaleString("en")} rows` : "";
}
