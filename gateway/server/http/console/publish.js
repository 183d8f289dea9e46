/** Publishing by hand: a text as one answer, or events. */

import { openPublisher } from "./gateway.js";

/** Characters of one delta: far below the shortest `max_message`, however they are escaped. */
const PIECE = 150;

/** Milliseconds to wait for the gateway. */
const PATIENCE = 10_000;

/** The events of a text as one answer. */
export function eventsOfText(text) {
  const id = `console-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const characters = Array.from(text); // whole ones: no pair of surrogates is cut
  const deltas = [];
  for (let at = 0; at < characters.length; at += PIECE) {
    deltas.push({ type: "text_delta", data: { text: characters.slice(at, at + PIECE).join("") } });
  }
  return [
    { type: "message_start", data: { message_id: id } },
    ...deltas,
    { type: "message_stop", data: { message_id: id, stop_reason: "end_turn" } },
  ];
}

/** The events of lines of JSON. @throws Error that names the line. */
export function eventsOfLines(text) {
  return text
    .split("\n")
    .map((line, number) => [line.trim(), number + 1])
    .filter(([line]) => line)
    .map(([line, number]) => {
      let event;
      try {
        event = JSON.parse(line);
      } catch (error) {
        throw new Error(`line ${number} is not JSON: ${error.message}`);
      }
      if (typeof event !== "object" || event === null || Array.isArray(event)) {
        throw new Error(`line ${number} is not a JSON object`);
      }
      return event;
    });
}

/**
 * Publishes events, and waits until all are acknowledged.
 *
 * @param ends whether to end the stream afterwards.
 * @returns the seq of the last event.
 * @throws Error the gateway's reason, or that it can't be reached.
 */
export function publish(stream, events, ends) {
  const name = `console-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const socket = openPublisher(stream, `producer=${name}`);
  return new Promise((resolve, reject) => {
    let seq = 0;
    let isDone = false;
    const finish = (act) => {
      clearTimeout(timer);
      isDone = true;
      socket.close();
      act();
    };
    const fail = (why) => isDone || finish(() => reject(new Error(why)));
    const timer = setTimeout(() => fail("the gateway has not acknowledged everything within 10 s"), PATIENCE);
    const succeed = () => isDone || finish(() => resolve(seq));
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") {
        events.forEach((event, number) => socket.send(JSON.stringify({ ...event, producer_seq: number + 1 })));
        if (ends) {
          socket.send('{"type":"close_stream"}');
        }
      } else if (message.type === "ack") {
        seq = message.seq;
        if (message.producer_seq === events.length && !ends) {
          succeed();
        }
      } else if (message.type === "problem") {
        fail(message.message);
      }
    });
    socket.addEventListener("close", ({ code, reason }) =>
      code === 1000 && ends ? succeed() : fail(reason || "the gateway refused the connection: it may need a token, or "
        + `${location.origin} in allowed_origins`),
    );
  });
}
