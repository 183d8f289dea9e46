/** What the cases of conformance can't show: leaving, limits, time. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { DeltawireError, subscribe, type Item, type Status, type Subscription } from "../src/index.ts";
import { end, FakeSocket, subscribed, text, turn } from "./fake-socket.ts";

beforeEach(() => FakeSocket.install());

const AT_ONCE = { initial: 0, longest: 0 };
const URL = "ws://gateway.example";

async function seqsOf(events: Subscription): Promise<number[]> {
  const seqs: number[] = [];
  for await (const { seq } of events) {
    seqs.push(seq);
  }
  return seqs;
}

test("wrong arguments are told at once", () => {
  assert.throws(() => subscribe(URL, "a b"), /stream id "a b"/);
  assert.throws(() => subscribe(URL, ".."), /stream id/);
  assert.throws(() => subscribe("ftp://host", "demo"), /not of the form/);
  assert.throws(() => subscribe("ws://host/?a=1", "demo"), /not of the form/);
  assert.throws(() => subscribe(URL, "demo", { token: "two words" }), /visible ASCII/);
  assert.equal(FakeSocket.opened.length, 0);
});

test("addresses of the web and of WebSockets mean the same, and keep their path", async () => {
  for (const [given, asked] of [
    ["http://host:1/", "ws://host:1/v1/streams/a%3Ab/subscribe?heartbeat=15"],
    ["https://host/relay/", "wss://host/relay/v1/streams/a%3Ab/subscribe?heartbeat=15"],
  ] as const) {
    FakeSocket.install();
    const events = subscribe(given, "a:b");
    assert.equal((await FakeSocket.nth(1)).url, asked);
    events.close();
  }
});

test("leaving the loop closes the connection", async () => {
  const events = subscribe(URL, "demo");
  const socket = await FakeSocket.nth(1);
  socket.say(subscribed(), text(1, "a"), text(2, "b"));
  for await (const item of events) {
    assert.equal(item.seq, 1);
    break;
  }
  await turn();
  assert.ok(socket.isClosed);
  assert.deepEqual(events.position, { epoch: "e1", seq: 1 });
  assert.deepEqual(await seqsOf(events), []);
});

test("closing ends a loop that waits, without an error", async () => {
  const events = subscribe(URL, "demo");
  const socket = await FakeSocket.nth(1);
  const reading = seqsOf(events);
  socket.say(subscribed(), text(1, "a"));
  await turn();
  events.close();
  assert.deepEqual(await reading, [1]);
  await turn();
  assert.ok(socket.isClosed);
});

test("aborting throws the reason, even while there is no connection", async () => {
  const leaving = new AbortController();
  const events = subscribe(URL, "demo", { signal: leaving.signal });
  const reading = seqsOf(events);
  await turn();
  leaving.abort(new Error("enough"));
  await assert.rejects(reading, /enough/);
  assert.ok(FakeSocket.opened[0]?.isClosed);
  await assert.rejects(seqsOf(subscribe(URL, "demo", { signal: AbortSignal.abort() })), { name: "AbortError" });
  assert.equal(FakeSocket.opened.length, 1);
});

test("waits that overlap get one item each, in order", async () => {
  const events = subscribe(URL, "demo")[Symbol.asyncIterator]();
  const socket = await FakeSocket.nth(1);
  const waits = [events.next(), events.next(), events.next()];
  socket.say(subscribed(), text(1, "a"), text(2, "b"), end(2));
  const items = await Promise.all(waits);
  assert.deepEqual(items.map(({ value }) => (value as Item | undefined)?.seq), [1, 2, undefined]);
});

test("a reader that does not read stops the connection, and goes on where it was", async () => {
  const events = subscribe(URL, "demo", { backoff: AT_ONCE });
  const socket = await FakeSocket.nth(1);
  socket.say(subscribed());
  const piece = "x".repeat(1024 * 1024);
  for (let seq = 1; seq <= 20; seq += 1) {
    socket.say(text(seq, piece));
  }
  await turn();
  assert.ok(socket.isClosed);
  assert.equal(FakeSocket.opened.length, 1, "it connects again once all has been read");
  const reading = seqsOf(events);
  const again = await FakeSocket.nth(2);
  assert.match(again.url, /after=8&epoch=e1/);
  again.say(subscribed(8), text(9, "y"), end(9));
  assert.deepEqual(await reading, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("the status tells what goes on", async () => {
  const seen: Status[] = [];
  const events = subscribe(URL, "demo", { backoff: AT_ONCE, onStatus: (status) => seen.push(status) });
  const reading = seqsOf(events);
  const first = await FakeSocket.nth(1);
  first.say(subscribed(), { type: "caught_up", seq: 0 });
  assert.equal(events.transport, "websocket");
  first.end(1006);
  const second = await FakeSocket.nth(2);
  second.say(subscribed(), end(0));
  await reading;
  await turn();
  assert.deepEqual(seen, [
    { state: "connecting" },
    { state: "replaying" },
    { state: "live" },
    { state: "waiting", reason: "the connection was lost", seconds: 0 },
    { state: "connecting" },
    { state: "replaying" },
    { state: "ended" },
  ]);
});

test("a loss that a runtime reports without a code is resumed like any other", async () => {
  const events = subscribe(URL, "demo", { backoff: AT_ONCE });
  (await FakeSocket.nth(1)).end(0);
  (await FakeSocket.nth(2)).say(subscribed(), text(1, "a"), end(1));
  assert.deepEqual(await seqsOf(events), [1]);
});

test("no connection leaves anything behind", async () => {
  const warnings: string[] = [];
  const note = ({ message }: Error): unknown => warnings.push(message);
  process.on("warning", note);
  const events = subscribe(URL, "demo", { backoff: AT_ONCE });
  for (let number = 1; number <= 30; number += 1) {
    (await FakeSocket.nth(number)).end(1006);
  }
  (await FakeSocket.nth(31)).say(subscribed(), end(0));
  assert.deepEqual(await seqsOf(events), []);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", note);
  assert.deepEqual(warnings.filter((text) => text.includes("leak")), []);
});

test("an error says whether the same can succeed later", () => {
  assert.ok(new DeltawireError("unreachable", "x").retryable);
  assert.ok(!new DeltawireError("forbidden", "x").retryable);
});

test("a gateway that falls silent is left, and the subscription resumed", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  try {
    const events = subscribe(URL, "demo", { heartbeat: 10, backoff: AT_ONCE });
    const reading = seqsOf(events);
    const socket = await FakeSocket.nth(1);
    assert.match(socket.url, /heartbeat=10/);
    socket.say(subscribed(), text(1, "a"));
    mock.timers.tick(19_000);
    socket.say({ type: "heartbeat", head: 1 });
    mock.timers.tick(19_000);
    await turn();
    assert.ok(!socket.isClosed);
    mock.timers.tick(1_000);
    await turn();
    assert.ok(socket.isClosed);
    mock.timers.tick(1);
    const again = await FakeSocket.nth(2);
    assert.match(again.url, /after=1/);
    again.say(subscribed(1), end(1));
    assert.deepEqual(await reading, [1]);
  } finally {
    mock.timers.reset();
  }
});

test("a device that woke asks the gateway for an answer, and leaves it without one", async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page) as typeof addEventListener;
  globalThis.removeEventListener = page.removeEventListener.bind(page) as typeof removeEventListener;
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  try {
    const events = subscribe(URL, "demo", { heartbeat: 0, backoff: AT_ONCE });
    const socket = await FakeSocket.nth(1);
    socket.say(subscribed());
    page.dispatchEvent(new Event("online"));
    assert.deepEqual(socket.sent, [{ type: "ping" }]);
    mock.timers.tick(1);
    socket.say({ type: "pong" });
    mock.timers.tick(10_000);
    await turn();
    assert.ok(!socket.isClosed);
    page.dispatchEvent(new Event("online"));
    mock.timers.tick(5_000);
    await turn();
    assert.ok(socket.isClosed);
    events.close();
    await turn();
  } finally {
    mock.timers.reset();
    Reflect.deleteProperty(globalThis, "addEventListener");
    Reflect.deleteProperty(globalThis, "removeEventListener");
  }
});

test("a token is replaced before it expires, on the connection", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  try {
    const jwt = (name: string, exp: number): string => `${name}.${btoa(JSON.stringify({ exp }))}.s`;
    const tokens = [jwt("first", 1_000 + 600), jwt("second", 1_000 + 9_000)];
    const events = subscribe(URL, "demo", { heartbeat: 0, token: async () => tokens.shift() as string });
    const socket = await FakeSocket.nth(1);
    assert.deepEqual(socket.offers, ["deltawire.v1.json", `deltawire.bearer.${jwt("first", 1_600)}`]);
    socket.say(subscribed());
    mock.timers.tick(539_000);
    await turn();
    assert.deepEqual(socket.sent, []);
    mock.timers.tick(1_000);
    await turn();
    assert.deepEqual(socket.sent, [{ type: "token", token: jwt("second", 10_000) }]);
    events.close();
    await turn();
  } finally {
    mock.timers.reset();
  }
});

test("a signal waits for the connection, and for its answer no longer than it may", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  try {
    const events = subscribe(URL, "demo", { heartbeat: 0 });
    const [answered, late] = [events.cancel("msg_7"), assert.rejects(events.signal("say", { timeout: 2 }), { code: "timeout" })];
    const socket = await FakeSocket.nth(1);
    assert.deepEqual(socket.sent, [
      { type: "signal", name: "cancel", id: "1", data: { message_id: "msg_7" } },
      { type: "signal", name: "say", id: "2" },
    ]);
    socket.say(subscribed(), { type: "signal_result", id: "1", delivered: 3 });
    assert.equal(await answered, 3);
    mock.timers.tick(2_000);
    await late;
    events.close();
    await turn();
    await assert.rejects(events.cancel(), { code: "not_delivered" });
  } finally {
    mock.timers.reset();
  }
});
