// A long map as tiles: which zoom a scale asks for, which tiles are in sight, and which coarser one stands in for a missing one.

export const TILE = 256; // pixels along a side
/** Texts of more tokens than this are looked at as maps of tiles. */
export const LONG = 2048;
/** A pixel of a tile is drawn as at least so many pixels of the screen. */
const LEAST = 0.75;

export interface Spot {
  zoom: number;
  row: number;
  column: number;
}

/** Rows and columns r0 .. r1 and c0 .. c1 of the map, in tokens, with fractions. */
export interface Box {
  r0: number;
  r1: number;
  c0: number;
  c1: number;
}

/** The middle of a view, and the logarithm to 2 of how many tokens a pixel has. */
export interface Place {
  row: number;
  column: number;
  zoom: number;
}

/** The zoom at which one tile shows everything. */
export function lastZoom(rows: number, columns: number): number {
  return Math.max(0, Math.ceil(Math.log2(Math.max(1, rows, columns) / TILE)));
}

/** The finest zoom of which no pixel is wasted, where a token is `px` pixels wide. */
export function zoomFor(px: number, last: number): number {
  return Math.max(0, Math.min(last, Math.ceil(Math.log2(LEAST / px))));
}

/** Tokens along the side of a tile. */
export function side(zoom: number): number {
  return TILE * 2 ** zoom;
}

/** The tiles that a box touches, those nearest to its middle first. */
export function tilesIn(box: Box, zoom: number, rows: number, columns: number): Spot[] {
  const span = side(zoom);
  const range = (from: number, to: number, length: number): [number, number] => {
    const end = Math.min(to, length);
    return [Math.max(0, Math.floor(from / span)), Math.ceil(end / span) - 1];
  };
  const [top, bottom] = range(box.r0, box.r1, rows);
  const [left, right] = range(box.c0, box.c1, columns);
  const found: Spot[] = [];
  for (let row = top; row <= bottom; row++) for (let column = left; column <= right; column++) found.push({ zoom, row, column });
  const [r, c] = [(box.r0 + box.r1) / 2 / span - 0.5, (box.c0 + box.c1) / 2 / span - 0.5];
  const away = ({ row, column }: Spot) => Math.max(Math.abs(row - r), Math.abs(column - c));
  return found.sort((a, b) => away(a) - away(b));
}

/** The tile `by` zooms coarser that holds this one. */
export function above({ zoom, row, column }: Spot, by: number): Spot {
  return { zoom: zoom + by, row: row >> by, column: column >> by };
}

/** The four tiles one zoom finer. */
export function below({ zoom, row, column }: Spot): Spot[] {
  return zoom ? [0, 1, 2, 3].map((n) => ({ zoom: zoom - 1, row: 2 * row + (n >> 1), column: 2 * column + (n & 1) })) : [];
}

/** What a tile is kept under. */
export function spotName({ zoom, row, column }: Spot): string {
  return `${zoom}/${row}/${column}`;
}
