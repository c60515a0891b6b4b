// What hands do on a map: drag, wheel, pinch, click, double click. In pixels of the element.

export interface Moves {
  zoom(by: number, x: number, y: number): void;
  pan(dx: number, dy: number): void;
  /** Null where the pointer has left. */
  point(at: { x: number; y: number } | null): void;
  pick(x: number, y: number, cause: number): void;
  dive(x: number, y: number): void;
  /** False where zooming out would change nothing, so that the page may scroll. */
  canZoomOut(): boolean;
}

/** A hand that moved less has clicked. */
const STILL = 3;
const WHEEL = 0.002;
/** A pinch on a trackpad comes as a wheel with small steps. */
const PINCH = 0.012;

interface Touch {
  x: number;
  y: number;
}

export function listenTo(element: HTMLElement, moves: Moves): void {
  const down = new Map<number, Touch>();
  let start: Touch = { x: 0, y: 0 };
  let moved = false;
  const at = (event: MouseEvent): Touch => {
    const box = element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const middle = () => {
    const [a, b] = [...down.values()] as [Touch, Touch?];
    return b ? { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) } : { ...a, apart: 1 };
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    if (down.size === 1) [start, moved] = [at(event), false];
    else moved = true;
  });
  element.addEventListener("pointermove", (event) => {
    const here = at(event);
    if (!down.has(event.pointerId)) return moves.point(here);
    const before = middle();
    down.set(event.pointerId, here);
    const now = middle();
    if (!moved && Math.hypot(here.x - start.x, here.y - start.y) <= STILL) return;
    moved = true;
    moves.pan(now.x - before.x, now.y - before.y);
    if (down.size > 1 && before.apart > 0) moves.zoom(now.apart / before.apart, now.x, now.y);
  });
  const up = (event: PointerEvent) => {
    if (!down.delete(event.pointerId) || moved || event.type === "pointercancel") return;
    const { x, y } = at(event);
    moves.pick(x, y, event.timeStamp);
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("pointerleave", () => moves.point(null));
  element.addEventListener("dblclick", (event) => moves.dive(at(event).x, at(event).y));
  element.addEventListener("wheel", (event) => {
    const pixels = event.deltaMode ? event.deltaY * 30 : event.deltaY;
    const by = Math.exp(-Math.max(-120, Math.min(120, pixels)) * (event.ctrlKey ? PINCH : WHEEL));
    if (by < 1 && !moves.canZoomOut() && !event.ctrlKey) return;
    event.preventDefault();
    moves.zoom(by, at(event).x, at(event).y);
  }, { passive: false });
}
