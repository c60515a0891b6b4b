import assert from "node:assert/strict";
import { test } from "node:test";
import { makeCase } from "./dense";
import { suite } from "./suite";
import { EmbeddedSource } from "../src/embedded";

suite("embedded", ({ doc, calls, blob }) => ({ source: new EmbeddedSource(doc, calls, Buffer.from(blob).toString("base64")), close() {} }));

test("a row that sees no key has weights 0 and no logsumexp", async () => {
  const { doc, calls, blob } = makeCase({ causal: true });
  const bytes = new Uint8Array(blob.slice(0));
  bytes.fill(0, calls[0]!.mask!.offset, calls[0]!.mask!.offset + 3); // row 0: 17 keys, 3 bytes
  const source = new EmbeddedSource(doc, calls, bytes.buffer);
  const row = await source.row({ call: 0, sequence: 0, index: 0, direction: "reads", level: "token" });
  assert.ok(row.weights.every((weight) => weight === 0));
  const pair = await source.pair({ call: 0, sequence: 0, head: 0, i: 0, j: 0 });
  assert.deepEqual([pair.weight, pair.allowed, pair.logsumexp], [0, false, null]);
  assert.ok(pair.output!.every((value) => value === 0));
});

test("an index outside the axis is an error in words", async () => {
  const { doc, calls, blob } = makeCase({});
  const source = new EmbeddedSource(doc, calls, blob);
  await assert.rejects(source.row({ call: 0, sequence: 0, index: 99, direction: "reads", level: "word" }), /there is no word 99 here/);
});
