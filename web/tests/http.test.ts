import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { makeCase } from "./dense";
import { suite } from "./suite";
import { EmbeddedSource } from "../src/embedded";
import { HttpHost, HttpSource, readFrame } from "../src/http";
import type { Source } from "../src/source";

export function frame(header: object, body: Uint8Array): Uint8Array {
  let json = JSON.stringify(header);
  json += " ".repeat((4 - (json.length % 4)) % 4);
  const bytes = new Uint8Array(4 + json.length + body.length);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(new TextEncoder().encode(json), 4);
  bytes.set(body, 4 + json.length);
  return bytes;
}

/** The wire format of docs/DESIGN.md over any source, without a socket. */
export async function answer(source: Source, address: string): Promise<Response> {
  const url = new URL(address, "http://localhost");
  const parameters = Object.fromEntries([...url.searchParams].map(([key, value]) => [key, /^\d+$/.test(value) ? Number(value) : value])) as never;
  const what = url.pathname.split("/")[4];
  if (!what) return Response.json(await source.document());
  if (what === "topk" || what === "pair") return Response.json(await source[what](parameters));
  const result = await source[what as "row"](parameters) as unknown as Record<string, unknown>;
  const { weights, pixels, ...header } = result;
  const body = (weights ?? pixels) as Float32Array;
  return new Response(frame(header, new Uint8Array(body.buffer, body.byteOffset, body.byteLength)) as never);
}

suite("http", ({ doc, calls, blob }) => {
  const source = new EmbeddedSource(doc, calls, blob);
  const before = globalThis.fetch;
  globalThis.fetch = ((url: string) => answer(source, url)) as typeof fetch;
  return { source: new HttpSource("/", doc.id), close: () => { globalThis.fetch = before; } };
});

async function served(handle: (path: string) => { status: number; body: string }, work: (base: string) => Promise<void>): Promise<void> {
  const server = createServer((request, response) => {
    const { status, body } = handle(request.url ?? "");
    response.writeHead(status, { "Content-Type": "application/json" }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await work(`http://127.0.0.1:${(server.address() as { port: number }).port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("errors are the server's sentence, and an error is not kept", async () => {
  let broken = true;
  await served(() => (broken ? { status: 400, body: '{"error": "call 9 does not exist"}' } : { status: 200, body: '{"title": "there"}' }), async (base) => {
    const source = new HttpSource(base, "a");
    await assert.rejects(source.document(), /^Error: call 9 does not exist$/);
    broken = false;
    assert.equal((await source.document()).title, "there");
  });
});

test("a server that has gone is said in words", async () => {
  await assert.rejects(new HttpHost("http://127.0.0.1:9/").documents(), /Is it still running in the terminal/);
});

test("one question asked twice travels once; ids are escaped", async () => {
  const seen: string[] = [];
  await served((path) => { seen.push(path); return { status: 200, body: '{"title": ""}' }; }, async (base) => {
    const source = new HttpSource(base, "../x");
    await Promise.all([source.document(), source.document()]);
    assert.deepEqual(seen, ["/api/documents/..%2Fx"]);
  });
});

test("an aborted request is asked again by whoever still wants it", async () => {
  const { doc, calls, blob } = makeCase({});
  const embedded = new EmbeddedSource(doc, calls, blob);
  const before = globalThis.fetch;
  globalThis.fetch = (async (url: string, init?: RequestInit) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    init?.signal?.throwIfAborted();
    return answer(embedded, url);
  }) as typeof fetch;
  try {
    const source = new HttpSource("/", doc.id);
    const query = { call: 0, sequence: 0, index: 1, direction: "reads", level: "token" } as const;
    const abort = new AbortController();
    const first = source.row(query, abort.signal);
    const second = source.row(query);
    abort.abort();
    await assert.rejects(first, { name: "AbortError" });
    assert.equal((await second).heads, 6);
  } finally {
    globalThis.fetch = before;
  }
});

test("a frame that is cut short is an error", () => {
  assert.throws(() => readFrame(new ArrayBuffer(2)), /cut short/);
  assert.throws(() => readFrame(frame({ heads: 1 }, new Uint8Array(4)).slice(0, 8).buffer), /cut short/);
});
