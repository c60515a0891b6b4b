import assert from "node:assert/strict";
import { test } from "node:test";
import { Blob2, causalBits } from "../dev/sample";
import { makeCase, SHAPE } from "./dense";
import { suite } from "./suite";
import { EmbeddedSource } from "../src/embedded";

suite("embedded", ({ doc, calls, blob }) => ({ source: new EmbeddedSource(doc, calls, blob), close() {} }));

test("a row that sees no key has weights 0 and no logsumexp", async () => {
  const { doc, calls, blob } = makeCase({ causal: true });
  const bits = causalBits(SHAPE.Q, SHAPE.K);
  bits.fill(0, 0, Math.ceil(SHAPE.K / 8)); // row 0
  const made = new Blob2();
  made.push(bits, calls[0]!.mask!.shape, "bits");
  const source = new EmbeddedSource(doc, calls, blob.map((text, part) => (part === calls[0]!.mask!.part ? made.texts[0]! : text)));
  const row = await source.row({ call: 0, sequence: 0, index: 0, direction: "reads", level: "token" });
  assert.ok(row.weights.every((weight) => weight === 0));
  const pair = (await source.pair({ call: 0, sequence: 0, head: 0, i: 0, j: 0 }))!;
  assert.deepEqual([pair.weight, pair.allowed, pair.logsumexp], [0, false, null]);
  assert.ok(pair.output!.every((value) => value === 0));
});

test("an index outside the axis is an error in words", async () => {
  const { doc, calls, blob } = makeCase({});
  const source = new EmbeddedSource(doc, calls, blob);
  await assert.rejects(source.row({ call: 0, sequence: 0, index: 99, direction: "reads", level: "word" }), /there is no word 99 here/);
});
