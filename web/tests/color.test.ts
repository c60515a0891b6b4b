import assert from "node:assert/strict";
import { test } from "node:test";
import { headColor, heatIndex, heatTable, INK, lineOpacity, lineWidth, rgb } from "../src/color";

/** Relative luminance, as WCAG defines it. */
function luminance([r, g, b]: number[]): number {
  const linear = [r, g, b].map((value) => {
    const part = value! / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(rgb(a)), luminance(rgb(b))].sort((m, n) => n - m);
  return (x! + 0.05) / (y! + 0.05);
}

for (const theme of ["light", "dark"] as const) {
  test(`${theme}: every head's colour can be seen, and text can be read`, () => {
    for (let head = 0; head < 16; head++) assert.ok(contrast(headColor(theme, head), INK[theme].panel) >= 3, `head ${head}`);
    assert.equal(new Set(Array.from({ length: 16 }, (_, head) => headColor(theme, head))).size, 16);
    for (const ink of ["text", "muted", "accent"] as const) assert.ok(contrast(INK[theme][ink], INK[theme].panel) >= 4.5, ink);
    assert.ok(contrast(INK[theme].mark, INK[theme].panel) >= 3, "mark");
  });

  test(`${theme}: the heat table runs one way`, () => {
    const table = heatTable(theme);
    const light = Array.from(table, (word) => luminance([word & 255, (word >> 8) & 255, (word >> 16) & 255]));
    for (let i = 1; i < 256; i++) assert.ok(theme === "light" ? light[i]! <= light[i - 1]! : light[i]! >= light[i - 1]!, `step ${i}`);
  });
}

test("heat and lines grow with the weight", () => {
  assert.deepEqual([heatIndex(0, 1), heatIndex(1, 1), heatIndex(0.25, 1), heatIndex(2, 1), heatIndex(NaN, 1), heatIndex(1, 0)], [0, 255, 128, 255, 0, 0]);
  assert.equal(lineWidth(0.0001, 10), 0.5);
  assert.equal(lineWidth(0.5, 10), 5);
  assert.ok(lineOpacity(0) < lineOpacity(0.1) && lineOpacity(0.1) < lineOpacity(1) && lineOpacity(1) === 1);
});
