// Tokens stay text: nothing in the source can turn a string into markup or code.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { brief, number, quote } from "../src/dom";

const root = join(process.cwd(), "src");

test("no file writes markup, inline styles, code from strings, or asks another host", () => {
  const bad = [/innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc/, /\beval\(|new Function|import\(/, /setAttribute\(\s*["']style/, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/];
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => /\.(ts|css)$/.test(name));
  assert.ok(files.length > 20);
  for (const file of files) {
    const text = readFileSync(join(root, file), "utf8");
    for (const pattern of bad) assert.ok(!pattern.test(text), `${file} has ${pattern}`);
    if (file.endsWith(".css")) assert.ok(!/url\(|@import/.test(text), `${file} asks for a file`);
    assert.ok(text.split("\n").length <= 501, `${file} is longer than 500 lines`);
  }
});

test("numbers as people read them", () => {
  assert.deepEqual([number(0.8149), number(0.0034), number(1e-6), number(0), number(null), number(-1.5)], ["0.81", "0.003", "<0.001", "0.00", "–", "−1.50"]);
  assert.deepEqual([number(0.8149, true), number(1e-6, true)], ["0.8149", "1.0e−6"]);
  assert.deepEqual([brief(-0.28), brief(0.0004), brief(1234), brief(0)], ["−0.28", "4.0e−4", "1234", "0"]);
  assert.equal(quote("x".repeat(40)).length, 26);
  assert.deepEqual([quote("a"), quote("\u202ea")], ["“a”", "“\u2068\u202ea\u2069”"]); // cannot turn the sentence around
});
