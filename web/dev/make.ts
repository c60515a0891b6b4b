// Writes pages to look at while working on the front end: realistic shapes, invented queries and keys. Not shipped.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { sample } from "./sample";
import type { Shape } from "./sample";

const SHAPES: Record<string, Shape> = {
  cat: { kind: "encoder", layers: 4, heads: 4, words: "The cat sat on the mat because it was tired".split(" "), dim: 32 },
  hostile: { kind: "encoder", layers: 2, heads: 2, words: ["</script><img src=x onerror=window.hacked=1>", "a", "<b>bold</b>", "end"], dim: 16 },
  tiny: { kind: "encoder", layers: 1, heads: 1, words: ["one", "two", "three"], dim: 2 },
  forty: { kind: "decoder", layers: 6, heads: 8, count: 40, dim: 64 },
  n512: { kind: "encoder", layers: 12, heads: 12, count: 512, dim: 64, half: true },
  n1000: { kind: "decoder", layers: 4, heads: 8, count: 1000, dim: 32, half: true },
  n20000: { kind: "encoder", layers: 1, heads: 2, count: 20000, dim: 8, half: true },
  translate: { kind: "cross", layers: 3, heads: 4, words: "the agreement on the European Economic Area was signed in August 1992 .".split(" "), target: "l' accord sur la zone économique européenne a été signé en août 1992 .".split(" "), dim: 32 },
};

const here = new URL("../", import.meta.url);
const out = new URL("build/pages/", here);
mkdirSync(out, { recursive: true });
const read = (name: string) => readFileSync(new URL(`../src/foveate/apps/static/${name}`, here), "utf8");
const [script, style] = [read("foveate.js"), read("foveate.css")];
const hash = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const ESCAPES: Record<string, string> = { "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029" };

for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SHAPES)) {
  const { doc, calls, blob } = sample(name, SHAPES[name] as Shape);
  const data = JSON.stringify({ document: doc, calls, parts: blob }).replace(/[<>&\u2028\u2029]/g, (c) => ESCAPES[c] as string);
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data: blob:`;
  const page = `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="${policy}"><title>foveate</title><style>${style}</style></head><body><div id="foveate"></div><script type="application/json" id="foveate-data">${data}</script><script>${script}</script></body></html>`;
  writeFileSync(new URL(`${name}.html`, out), page);
  console.log(`build/pages/${name}.html ${(page.length / 1e6).toFixed(2)} MB`);
}
