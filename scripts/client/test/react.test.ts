/** The hook in a page: React draws into the document of happy-dom. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Window } from "happy-dom";
import { act, createElement, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { useStream, type StreamView } from "../src/react.ts";
import { end, FakeSocket, subscribed, text, turn } from "./fake-socket.ts";

const page = new Window();
Object.assign(globalThis, { window: page, document: page.document, IS_REACT_ACT_ENVIRONMENT: true });

async function shown(stream: () => string | null, isStrict = false) {
  FakeSocket.install();
  let view!: StreamView;
  const Answer = () => {
    view = useStream("ws://gateway.example", stream());
    return createElement("p", null, view.text);
  };
  const place = page.document.createElement("div");
  const root = createRoot(place as unknown as Element);
  const answer = () => createElement(isStrict ? StrictMode : "div", null, createElement(Answer));
  await act(async () => root.render(answer()));
  return {
    text: () => place.textContent,
    view: () => view,
    redraw: () => act(async () => root.render(answer())),
    leave: () => act(async () => root.unmount()),
  };
}

test("the text is drawn as it comes, and leaving closes the connection", async () => {
  const answer = await shown(() => "demo");
  const socket = await act(() => FakeSocket.nth(1));
  await act(async () => {
    socket.say(subscribed(), text(1, "Hel"), { type: "caught_up", seq: 1 }, text(2, "lo"));
    await turn();
  });
  assert.equal(answer.text(), "Hello");
  assert.deepEqual(answer.view().status, { state: "live" });
  assert.deepEqual(answer.view().position, { epoch: "e1", seq: 2 });
  const cancelled = answer.view().cancel();
  socket.say({ type: "signal_result", id: "1", delivered: 1 });
  assert.equal(await cancelled, 1);
  await answer.leave();
  await turn();
  assert.ok(socket.isClosed);
});

test("another stream begins anew", async () => {
  let stream: string | null = "one";
  const answer = await shown(() => stream);
  const first = await act(() => FakeSocket.nth(1));
  await act(async () => {
    first.say(subscribed(), text(1, "first"));
    await turn();
  });
  stream = "two";
  await answer.redraw();
  const second = await act(() => FakeSocket.nth(2));
  assert.ok(first.isClosed);
  assert.equal(answer.text(), "");
  await act(async () => {
    second.say(subscribed(), text(1, "second"), end(1));
    await turn();
  });
  assert.equal(answer.text(), "second");
  assert.deepEqual(answer.view().status, { state: "ended" });
  await answer.leave();
});

test("no stream is followed where there is none, and cancelling reaches nobody", async () => {
  const answer = await shown(() => null);
  await turn();
  assert.equal(FakeSocket.opened.length, 0);
  assert.equal(await answer.view().cancel(), 0);
  await answer.leave();
});

test("strict mode, which runs effects twice, shows each text once", async () => {
  const answer = await shown(() => "demo", true);
  const socket = await act(() => FakeSocket.nth(FakeSocket.opened.length));
  await act(async () => {
    socket.say(subscribed(), text(1, "once"));
    await turn();
  });
  assert.equal(answer.text(), "once");
  await answer.leave();
});

test("a failure is told", async () => {
  const answer = await shown(() => "demo");
  const socket = await act(() => FakeSocket.nth(1));
  await act(async () => {
    socket.end(4503, "no");
    await turn();
  });
  const { status } = answer.view();
  assert.equal(status.state === "failed" && (status.error as { code: string }).code, "forbidden");
  await answer.leave();
});
