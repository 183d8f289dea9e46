/**
 * Server-sent events as a connection (SPEC §9.3), where no WebSocket passes.
 *
 * Not with EventSource: it sends no header, so a token would stand in the URL, and it hides the status of a refusal.
 */

import { NotOpened, type Connection, type Listener } from "./connection.ts";
import { DeltawireError } from "./errors.ts";

/** The gateway refused a request with an HTTP status. */
export class HttpRefusal extends Error {
  readonly status: number;
  /** Seconds it asked to wait (`Retry-After`); 0 if it asked for none. */
  readonly retryAfter: number;

  constructor(status: number, detail: string, retryAfter: number) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Opens a stream of server-sent events, with a way to signal; null if the stream has ended and the reader has everything.
 *
 * @throws NotOpened no answer came.
 * @throws HttpRefusal the gateway refused.
 * @throws DeltawireError `protocol_fault`: what answered is no gateway.
 */
export async function openEventStream(
  urls: { readonly events: string; readonly signal: string },
  token: string | undefined,
  listener: Listener,
  signal: AbortSignal,
): Promise<Connection | null> {
  const leaving = new AbortController();
  const leave = (): void => {
    signal.removeEventListener("abort", leave);
    leaving.abort();
  };
  signal.addEventListener("abort", leave);
  let response: Response;
  try {
    response = await fetch(urls.events, {
      headers: authorization(token),
      cache: "no-store",
      signal: leaving.signal,
    });
  } catch (cause) {
    leave();
    signal.throwIfAborted();
    throw new NotOpened("there was no answer", { cause });
  }
  if (response.status === 204) {
    leave();
    return null;
  }
  if (!response.ok) {
    const refusal = await refusalOf(response);
    leave();
    throw refusal;
  }
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || response.body === null) {
    leave();
    throw new DeltawireError("protocol_fault", "the server did not answer with server-sent events: it is no gateway");
  }
  void follow(response.body, listener, leaving.signal);
  const post = (message: object): Promise<number> => postSignal(urls.signal, token, message);
  return { transport: "sse", send: () => false, post, close: leave };
}

/** Sends a signal in a request of its own (SPEC §9.7), which outlives the page; returns to how many producers it went. */
async function postSignal(url: string, token: string | undefined, message: object): Promise<number> {
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...authorization(token) },
      body: JSON.stringify(message),
      keepalive: true,
    });
  } catch (cause) {
    throw new DeltawireError("not_delivered", "there was no answer to the signal", { cause });
  }
  if (response.ok) {
    const result: { delivered: number } = await response.json();
    return result.delivered;
  }
  const { status, message: detail } = await refusalOf(response);
  if (status === 409) {
    return 0; // no producer is there
  }
  const code = status === 403 ? "not_permitted" : status === 400 ? "unknown_message" : "not_delivered";
  throw new DeltawireError(code, `refused: ${detail} (HTTP ${status})`, { status });
}

const authorization = (token: string | undefined): Record<string, string> =>
  token === undefined ? {} : { Authorization: `Bearer ${token}` };

async function follow(body: ReadableStream<Uint8Array>, listener: Listener, signal: AbortSignal): Promise<void> {
  const parser = new EventParser((data) => {
    if (!signal.aborted) {
      listener.message(data);
    }
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      listener.alive();
      parser.add(decoder.decode(piece.value, { stream: true }));
    }
  } catch {
    // lost: as an end without a word
  }
  if (!signal.aborted) {
    listener.end({ reason: "the connection was lost" });
  }
}

async function refusalOf(response: Response): Promise<HttpRefusal> {
  let detail = response.statusText || "no reason given";
  try {
    const problem: { detail?: unknown; title?: unknown } = await response.json();
    detail = String(problem.detail || problem.title || detail);
  } catch {
    // not a problem document
  }
  const told = response.headers.get("Retry-After") ?? "";
  return new HttpRefusal(response.status, detail, /^\d{1,6}$/.test(told) ? Number(told) : 0);
}

/**
 * Splits server-sent events (WHATWG HTML §9.2.6) as their text arrives, in pieces of any size. Of an event, only its
 * `data` counts: each message says by itself what it is.
 */
export class EventParser {
  readonly #emit: (data: string) => void;
  #rest = ""; // of a line whose end has not come
  #data: string[] = []; // lines of the event in progress
  #sawReturn = false; // the last piece ended in CR: a LF that follows belongs to it

  constructor(emit: (data: string) => void) {
    this.#emit = emit;
  }

  add(text: string): void {
    const skips = this.#sawReturn && text.startsWith("\n") ? 1 : 0;
    if (text) {
      this.#sawReturn = text.endsWith("\r");
    }
    const lines = (this.#rest + text.slice(skips)).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#addLine(line);
    }
  }

  #addLine(line: string): void {
    if (line.startsWith("data:")) {
      this.#data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    } else if (line === "" && this.#data.length > 0) {
      const data = this.#data.join("\n");
      this.#data = [];
      this.#emit(data);
    }
  }
}
