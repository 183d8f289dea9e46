/** Publishing by hand: a text as one answer, or events, a line of JSON each. */

import { request, streamPath } from "./gateway.js";

/** Characters of one delta: far below the shortest `max_message`, however they are escaped. */
const PIECE = 150;

/** Milliseconds to wait for the gateway. */
const PATIENCE = 10_000;

const random = () => crypto.getRandomValues(new Uint32Array(2)).join("-");

/** The lines that say a text as one answer. */
export function linesOfText(text) {
  const message_id = `console-${random()}`;
  const characters = Array.from(text); // whole ones: no pair of surrogates is cut
  const events = [{ type: "message_start", data: { message_id } }];
  for (let at = 0; at < characters.length; at += PIECE) {
    events.push({ type: "text_delta", data: { text: characters.slice(at, at + PIECE).join("") } });
  }
  events.push({ type: "message_stop", data: { message_id, stop_reason: "end_turn" } });
  return events.map((event) => JSON.stringify(event)).join("\n");
}

/** Publishes lines in one request, and perhaps the stream's end; returns the seq of the last event. */
export async function publish(stream, lines, ends) {
  const response = await request(`${streamPath(stream)}/events?producer=console-${random()}`, {
    method: "POST",
    headers: { "Content-Type": "application/x-ndjson" },
    body: ends ? `${lines}\n{"type":"close_stream"}` : lines,
    signal: AbortSignal.timeout(PATIENCE),
  });
  return (await response.json()).seq;
}
