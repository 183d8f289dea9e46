import assert from "node:assert/strict";
import { test } from "node:test";
import { fold, type EventType, type Item, type Transcript } from "../src/index.ts";

let seq = 0;
const event = (type: EventType, data: object): Item => ({ type, seq: (seq += 1), timestamp: "", data }) as unknown as Item;
const folded = (...items: Item[]): Transcript => items.reduce(fold, [] as Transcript);

test("deltas become the text, the thinking and the tool calls of their message", () => {
  const [message] = folded(
    event("message_start", { message_id: "m1", model: "m-large" }),
    event("thinking", { thinking: "hm" }),
    event("text_delta", { text: "Hel" }),
    event("text_delta", { text: "lo" }),
    event("content_start", { index: 1, kind: "tool_use", id: "t1", name: "weather" }),
    event("tool_delta", { index: 1, partial_json: '{"city":' }),
    event("tool_delta", { index: 1, partial_json: '"Oslo"}' }),
    event("tool_delta", { index: 2, partial_json: "{}" }),
    event("error", { error: "overloaded" }),
    event("usage", { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 }),
    event("message_stop", { message_id: "m1", stop_reason: "end_turn" }),
  );
  assert.deepEqual(message, {
    id: "m1",
    model: "m-large",
    text: "Hello",
    thinking: "hm",
    tools: [
      { index: 1, id: "t1", name: "weather", json: '{"city":"Oslo"}' },
      { index: 2, json: "{}" },
    ],
    error: { error: "overloaded" },
    usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
    stopReason: "end_turn",
    hasGap: false,
  });
});

test("what was folded before stays as it is", () => {
  const before = folded(event("message_start", { message_id: "m1" }), event("text_delta", { text: "a" }));
  const after = fold(before, event("text_delta", { text: "b" }));
  assert.deepEqual([before[0]?.text, after[0]?.text], ["a", "ab"]);
});

test("text whose beginning is missing is shown, and so is the gap", () => {
  const gap: Item = { type: "gap", first: 1, seq: 9, reason: "evicted" };
  assert.deepEqual(
    folded(gap, event("text_delta", { text: "lo" })).map(({ id, text, hasGap }) => [id, text, hasGap]),
    [["", "lo", true]],
  );
});

test("a new epoch begins anew", () => {
  const gap: Item = { type: "gap", first: 1, seq: 0, reason: "epoch_changed" };
  assert.deepEqual(folded(event("text_delta", { text: "old" }), gap), []);
});

test("of several choices the first counts", () => {
  const [message] = folded(
    event("text_delta", { text: "a", choice: 0 }),
    event("text_delta", { text: "x", choice: 1 }),
    event("message_stop", { message_id: "m", stop_reason: "length", choice: 1 }),
  );
  assert.deepEqual([message?.text, message?.stopReason], ["a", undefined]);
});
