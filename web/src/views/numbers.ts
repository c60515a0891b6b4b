// The numbers in the cells of a heatmap, where a cell has room for one. Tiles are pictures; what is printed is exact, so it
// comes from rows.

import { heatIndex, heatTable } from "../color";
import { FONT } from "../layout";
import type { Row } from "../protocol";
import type { Session } from "../session";
import { aborted, Cache } from "../source";
import type { View } from "./frame";

/** Pixels of a cell from which a number fits, and from which it is written with its zero. */
export const NARROW = 25;
const WIDE = 36;
/** Rows of more numbers than this are not asked for. */
const MOST = 1 << 18;
const AT_ONCE = 4;
/** A weight that would read 0.00 leaves its cell empty. */
export const LEAST = 0.005;

export function cellText(weight: number, px: number): string {
  const text = weight.toFixed(2);
  if (px >= WIDE) return text;
  return text.startsWith("0") ? text.slice(1) : text.slice(0, 3);
}

export class CellNumbers {
  private readonly rows = new Cache<Row | Promise<void>>(1024);
  private pending = 0;

  constructor(private readonly session: Session, private readonly redraw: () => void) {}

  private row(i: number): Row | null {
    const { session, rows } = this;
    const { call, sequence, level } = session.state;
    const name = [call, sequence, level, i].join();
    const present = rows.get(name);
    if (present) return present instanceof Promise ? null : present;
    if (this.pending >= AT_ONCE) return null; // asked for when another has come
    this.pending++;
    const asked = session.source.row({ call, sequence, index: i, direction: "reads", level }).then((row) => void rows.set(name, row), (error: unknown) => {
      if (aborted(error)) rows.delete(name); // one that failed is not asked for again, and its cells stay empty
    });
    rows.set(name, asked);
    void asked.then(() => {
      this.pending--;
      this.redraw();
    });
    return null;
  }

  /** Prints the cells in sight, each in an ink that can be read on it. */
  draw(context: CanvasRenderingContext2D, view: View, peak: number): void {
    const { session } = this;
    const { axes: { query, key }, call, state, theme } = session;
    const { px, r, c, left, top } = view;
    if (px < NARROW || key.length * call.heads > MOST) return;
    const table = heatTable(theme);
    context.font = `${px < WIDE ? 10 : 11}px ${FONT}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const [last, right] = [Math.min(query.length, r + (view.height - top) / px), Math.min(key.length, c + (view.width - left - view.right) / px)];
    const shown = (special: boolean) => state.special || !special;
    for (let i = Math.floor(r); i < last; i++) {
      if (!shown(query.special[i] as boolean) || !session.complete(query, i)) continue;
      const row = this.row(i);
      if (!row) continue;
      for (let j = Math.floor(c); j < right; j++) {
        const weight = row.weights[state.head * row.length + j] as number;
        if (!(weight >= LEAST) || !shown(key.special[j] as boolean) || !session.complete(key, j)) continue;
        context.fillStyle = inkOn(table[heatIndex(weight, peak)] as number);
        context.fillText(cellText(weight, px), left + (j - c + 0.5) * px, top + (i - r + 0.5) * px + 0.5);
      }
    }
  }
}

/** Black or white, whichever stands out more from a colour of the heat table. */
export function inkOn(word: number): string {
  const light = [word & 255, (word >> 8) & 255, (word >> 16) & 255].map((part) => (part / 255) ** 2.2);
  return 0.2126 * (light[0] as number) + 0.7152 * (light[1] as number) + 0.0722 * (light[2] as number) > 0.18 ? "#14121f" : "#ffffff";
}
