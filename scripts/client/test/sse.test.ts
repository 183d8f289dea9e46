/** Where no WebSocket passes: the fallback, against a server that answers by SPEC §9.3. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, beforeEach, test } from "node:test";
import { subscribe, type Item, type SubscribeOptions } from "../src/index.ts";
import { EventParser } from "../src/sse.ts";
import { end, subscribed, text } from "./fake-socket.ts";

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

let answers: Answer[] = [];
let asked: string[] = [];
let upgrades = 0;
const server = createServer((request, response) => {
  asked.push(request.url ?? "");
  const answer = answers.shift() ?? ((it: ServerResponse) => it.writeHead(418).end());
  answer(response, request);
});
server.on("upgrade", (_request, socket) => {
  upgrades += 1;
  socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
after(() => server.close());

beforeEach(() => {
  [answers, asked, upgrades] = [[], [], 0];
});

const frame = (message: object): string => `id: e1.1\ndata: ${JSON.stringify(message)}\n\n`;

const streaming =
  (...messages: object[]): Answer =>
  (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end(`retry: 1000\n\n${messages.map(frame).join(":\n\n")}`);
  };

const refusing =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (response) =>
    void response.writeHead(status, headers).end(JSON.stringify({ title: "No", status, detail: "not so" }));

async function read(options: SubscribeOptions = {}): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of subscribe(url, "demo", { backoff: { initial: 0, longest: 0 }, heartbeat: 0, ...options })) {
    items.push(item);
  }
  return items;
}

test("what a WebSocket does not bring, server-sent events do, and they are resumed", async () => {
  answers = [
    streaming(subscribed(), text(1, "ünd 🚀"), { type: "caught_up", seq: 1 }),
    streaming(subscribed(1), text(2, "b"), end(2)),
  ];
  assert.deepEqual((await read()).map(({ seq }) => seq), [1, 2]);
  assert.deepEqual(asked, ["/v1/streams/demo/sse", "/v1/streams/demo/sse?after=1&epoch=e1"]);
  assert.equal(upgrades, 1, "what never passed is not tried again");
});

test("text that arrives in any pieces is the same text", async () => {
  answers = [
    (response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      const bytes = Buffer.from([subscribed(), text(1, "日本 🚀"), end(1)].map(frame).join(""));
      const send = (at: number): void => {
        if (at < bytes.length) {
          response.write(bytes.subarray(at, at + 7), () => setImmediate(send, at + 7));
        } else {
          response.end();
        }
      };
      send(0);
    },
  ];
  const [item] = await read({ transport: "sse" });
  assert.deepEqual(item, text(1, "日本 🚀"));
});

test("a token travels in a header", async () => {
  let header: string | undefined;
  answers = [
    (response, request) => {
      header = request.headers.authorization;
      streaming(subscribed(), end(0))(response, request);
    },
  ];
  await read({ token: "t1" });
  assert.equal(header, "Bearer t1");
});

test("204 is the end of a stream of which the reader has everything", async () => {
  answers = [(response) => void response.writeHead(204).end()];
  const events = subscribe(url, "demo", { position: { epoch: "e1", seq: 4 } });
  for await (const item of events) {
    assert.fail(JSON.stringify(item));
  }
  assert.deepEqual([events.ended?.seq, events.position], [4, { epoch: "e1", seq: 4 }]);
});

test("refusals say why a WebSocket could not be opened", async () => {
  for (const [status, code] of [
    [400, "bad_request"],
    [401, "unauthorized"],
    [403, "forbidden"],
    [418, "refused"],
  ] as const) {
    answers = [refusing(status)];
    await assert.rejects(read(), { code, status, message: `refused: not so (HTTP ${status})` });
  }
});

test("404 is of the stream if it was not to be created, and of the address otherwise", async () => {
  answers = [refusing(404)];
  await assert.rejects(read({ create: false }), { code: "not_found" });
  answers = [refusing(404)];
  await assert.rejects(read({ retryFor: 0 }), { code: "unreachable", message: /no server-sent events/ });
});

test("a gateway that is full is asked again when it said", async () => {
  answers = [refusing(503, { "Retry-After": "60" })];
  await assert.rejects(read({ retryFor: 30 }), { code: "unreachable", message: /HTTP 503: not so/ });
  answers = [refusing(503, { "Retry-After": "0" }), streaming(subscribed(), end(0))];
  assert.deepEqual(await read(), []);
});

test("a problem decides whether its end is resumed", async () => {
  const problem = { type: "problem", code: "overloaded", message: "too much", retryable: true };
  answers = [streaming(subscribed(), problem), streaming(subscribed(), end(0))];
  assert.deepEqual(await read(), []);
  answers = [streaming(subscribed(), { ...problem, code: "forbidden", retryable: false })];
  await assert.rejects(read(), { code: "forbidden", message: "refused: too much" });
});

test("what is no event stream is no gateway", async () => {
  answers = [(response) => void response.writeHead(200, { "Content-Type": "text/html" }).end("<p>sign in")];
  await assert.rejects(read(), { code: "protocol_fault" });
});

const open: Answer = (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(frame(subscribed()));
};

test("signals are requests of their own where only server-sent events pass", async () => {
  const bodies: unknown[] = [];
  const taking =
    (status: number, answer: object): Answer =>
    (response, request) => {
      let body = "";
      request.on("data", (piece) => (body += piece));
      request.on("end", () => {
        bodies.push([request.method, request.headers.authorization, request.headers["content-type"], JSON.parse(body)]);
        response.writeHead(status).end(JSON.stringify(answer));
      });
    };
  answers = [open, taking(200, { type: "signal_result", delivered: 2 }), taking(409, { delivered: 0 })];
  const events = subscribe(url, "demo", { token: "t1" });
  assert.equal(await events.cancel("m1"), 2);
  assert.equal(events.transport, "sse");
  assert.equal(await events.signal("hurry"), 0, "nobody is there");
  assert.deepEqual(asked.slice(1), ["/v1/streams/demo/signal", "/v1/streams/demo/signal"]);
  const headers = ["POST", "Bearer t1", "application/json"];
  assert.deepEqual(bodies, [
    [...headers, { type: "signal", name: "cancel", id: "1", data: { message_id: "m1" } }],
    [...headers, { type: "signal", name: "hurry", id: "2" }],
  ]);
  events.close();
});

test("a signal that is refused says why, and the subscription goes on", async () => {
  answers = [open, refusing(403), refusing(400), refusing(429), (response) => void response.destroy()];
  const events = subscribe(url, "demo");
  for (const code of ["not_permitted", "unknown_message", "not_delivered", "not_delivered"]) {
    await assert.rejects(events.cancel(), { code });
  }
  assert.equal(events.transport, "sse");
  events.close();
});

test("a signal is answered though the stream ends first", async () => {
  let finish = (): void => undefined;
  answers = [
    (response, request) => {
      open(response, request);
      finish = () => void response.end(frame(end(0)));
    },
    (response) => {
      finish();
      setImmediate(() => response.end(JSON.stringify({ type: "signal_result", delivered: 1 })));
    },
  ];
  const events = subscribe(url, "demo");
  const cancelled = events.cancel();
  for await (const item of events) {
    assert.fail(JSON.stringify(item));
  }
  assert.equal(await cancelled, 1);
});

test("an event is the same wherever its text is cut, with any line ends", () => {
  for (const line of ["\n", "\r\n", "\r"]) {
    const whole = [": hi", "", "event: gap", "id: e.1", "data: one", "data:two", "", "retry: 5", "", "data: x", "", ""].join(line);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      const seen: string[] = [];
      const parser = new EventParser((data) => seen.push(data));
      parser.add(whole.slice(0, cut));
      parser.add(whole.slice(cut));
      assert.deepEqual(seen, ["one\ntwo", "x"], JSON.stringify([line, cut]));
    }
  }
});
