import assert from "node:assert/strict";
import { test } from "node:test";
import { answer } from "./http.test";
import { suite } from "./suite";
import { EmbeddedSource } from "../src/embedded";
import { Messages } from "../src/messages";
import type { Model } from "../src/messages";

type Said = { id?: string; question?: string; parameters?: [string, string][]; cancel?: string; open?: boolean };
type Listener = (content: unknown, buffers: DataView[]) => void;

/** The model of a widget whose kernel does what `kernel` does with what is said. */
class FakeModel implements Model {
  readonly said: Said[] = [];
  private readonly listeners = new Set<Listener>();

  constructor(private readonly kernel: (content: Said, model: FakeModel) => void = () => undefined) {}

  send(content: unknown): void {
    this.said.push(content as Said);
    this.kernel(content as Said, this);
  }

  tell(content: object, ...buffers: Uint8Array[]): void {
    for (const listener of this.listeners) listener(content, buffers.map((one) => new DataView(one.buffer, one.byteOffset, one.byteLength)));
  }

  on(_: string, listener: Listener): void {
    this.listeners.add(listener);
  }

  off(_: string, listener: Listener): void {
    this.listeners.delete(listener);
  }
}

const row = { call: 0, sequence: 0, index: 0, direction: "reads", level: "token" } as const;
const silent = () => undefined;

suite("messages", ({ doc, calls, blob }) => {
  const source = new EmbeddedSource(doc, calls, blob);
  const model = new FakeModel(({ id, question, parameters }, { tell }) => {
    if (id === undefined) return;
    const address = `/api/documents/x${question === "document" ? "" : `/${question}`}?${new URLSearchParams(parameters)}`;
    answer(source, address).then(
      async (response) => {
        const bytes = new Uint8Array(await response.arrayBuffer());
        const shifted = new Uint8Array(bytes.length + 3); // buffers of a message need not begin at a multiple of 4
        shifted.set(bytes, 3);
        tell.call(model, { id }, shifted.subarray(3));
      },
      (error: Error) => tell.call(model, { id, error: error.message }),
    );
  });
  const messages = new Messages(model, silent);
  return { source: messages.source(), close: () => messages.close() };
});

test("views of one widget take their own answers, and an error is a sentence", async () => {
  const model = new FakeModel();
  const [one, two] = [new Messages(model, silent), new Messages(model, silent)];
  const asked = [one.source().document(), two.source().document()];
  const [first, second] = model.said.filter(({ id }) => id).map(({ id }) => id as string);
  assert.notEqual(first, second);
  model.tell({ id: second, error: "call 9 does not exist" });
  model.tell({ id: "nobody's" }, new Uint8Array(1));
  model.tell({ id: first }, new TextEncoder().encode('{"title": "there"}'));
  assert.equal((await asked[0])?.title, "there");
  await assert.rejects(asked[1] as Promise<unknown>, /^Error: call 9 does not exist$/);
  one.close();
  two.close();
});

test("a question that is no longer wanted is taken back, and its answer dropped", async () => {
  const model = new FakeModel();
  const messages = new Messages(model, silent);
  const abort = new AbortController();
  const asked = messages.source().row(row, abort.signal);
  const { id } = model.said.at(-1) as Said;
  abort.abort();
  await assert.rejects(asked, { name: "AbortError" });
  assert.deepEqual(model.said.at(-1), { cancel: id });
  model.tell({ id: id as string }, new Uint8Array(1));
  await assert.rejects(messages.ask("api/documents/x/row?call=0", { signal: abort.signal }), { name: "AbortError" });
  messages.close();
});

test("it says that it is there, answers who asks, and says when it goes", async () => {
  const model = new FakeModel();
  const messages = new Messages(model, silent);
  const asked = messages.source().document();
  model.tell({ anyone: true });
  messages.close();
  await assert.rejects(asked, { name: "AbortError" });
  assert.deepEqual(model.said.filter(({ open }) => open !== undefined), [{ open: true }, { open: true }, { open: false }]);
  model.tell({ anyone: true });
  assert.equal(model.said.length, 4);
});

test("a kernel that does not answer is told of, until it does", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const model = new FakeModel();
  const told: (string | null)[] = [];
  const messages = new Messages(model, (sentence) => told.push(sentence));
  const asked = messages.source().document();
  const { id } = model.said.at(-1) as Said;
  context.mock.timers.tick(2500);
  assert.deepEqual(model.said.at(-1), { open: true });
  model.tell({ here: true }); // it computes
  context.mock.timers.tick(2500);
  context.mock.timers.tick(2499);
  assert.deepEqual(told, []);
  context.mock.timers.tick(1);
  assert.match(told[0] as string, /^Waiting for the kernel: .* run this cell again\.$/);
  model.tell({ id: id as string }, new TextEncoder().encode("{}"));
  await asked;
  assert.equal(told.at(-1), null);
  context.mock.timers.tick(10_000); // nothing is asked: silence means nothing
  assert.equal(told.length, 2);
  messages.close();
});

