/** One connection after another: which transport, how attempts fail, how long to wait. */

import { NotOpened, openWebSocket, type Connection, type Listener } from "./connection.ts";
import { DeltawireError, judgeStatus } from "./errors.ts";
import type { Position } from "./messages.ts";
import type { Addresses, SubscribeOptions } from "./request.ts";
import { DEFAULT_BACKOFF, Retries } from "./retries.ts";
import { HttpRefusal, openEventStream } from "./sse.ts";
import { Tokens } from "./tokens.ts";

/** Times that a WebSocket which worked before is tried again although server-sent events pass: a gateway that
 * restarts may miss the first and answer the second. */
const PATIENCE = 2;

/** Seconds without progress after which to give up, unless the program says otherwise. */
const RETRY_FOR = 30;

export class Connector {
  readonly tokens: Tokens;
  readonly #addresses: Addresses;
  readonly #options: SubscribeOptions;
  readonly #retries: Retries;
  #failure: string | null = null; // why the last connection ended, or none came about
  #told = 0; // seconds the gateway asked to wait
  #wasOpen = false;
  #hadWebSocket = false;
  #isBlocked = false; // WebSockets never passed, and server-sent events did
  #detours = 0; // times in a row that only server-sent events passed
  #wake: () => void = () => undefined;

  constructor(addresses: Addresses, options: SubscribeOptions) {
    this.tokens = new Tokens(options.token);
    this.#addresses = addresses;
    this.#options = options;
    this.#retries = new Retries(
      options.backoff ?? DEFAULT_BACKOFF,
      options.retryFor === undefined ? RETRY_FOR : options.retryFor,
    );
  }

  /**
   * Opens a connection, with as many attempts and waits as necessary; null if the stream has ended and the reader has
   * everything.
   *
   * @throws DeltawireError there is none to be had.
   */
  async open(position: Position | null, listener: Listener, signal: AbortSignal): Promise<Connection | null> {
    for (;;) {
      await this.#wait(signal);
      this.#options.onStatus?.({ state: "connecting" });
      const token = await this.tokens.take();
      signal.throwIfAborted();
      try {
        const connection = await this.#attempt(position, token, listener, signal);
        this.#wasOpen = true;
        return connection;
      } catch (error) {
        signal.throwIfAborted();
        this.lost(this.#judge(error));
      }
    }
  }

  /** Notes how a connection ended: the next `open` waits first. An error is thrown: waiting would not help. */
  lost(failure: string | DeltawireError): void {
    if (failure instanceof DeltawireError) {
      throw failure;
    }
    this.#failure = failure;
  }

  /** Notes that something was delivered: the next failure begins a new run of attempts. */
  progressed(): void {
    this.#retries.reset();
  }

  /** Ends a wait: the network may be back. */
  wake(): void {
    this.#wake();
  }

  async #attempt(
    position: Position | null,
    token: string | undefined,
    listener: Listener,
    signal: AbortSignal,
  ): Promise<Connection | null> {
    const wanted = this.#options.transport ?? "auto";
    const isPossible = typeof WebSocket !== "undefined" && !this.#isBlocked;
    if (wanted === "websocket" || (wanted === "auto" && isPossible)) {
      try {
        const connection = await openWebSocket(this.#addresses.subscribe(position), token, listener, signal);
        this.#hadWebSocket = true;
        this.#detours = 0;
        return connection;
      } catch (error) {
        if (wanted === "websocket" || !(error instanceof NotOpened)) {
          throw error;
        }
      }
    }
    const urls = { events: this.#addresses.sse(position), signal: this.#addresses.signal };
    const connection = await openEventStream(urls, token, listener, signal);
    if (this.#hadWebSocket && connection !== null && this.#detours < PATIENCE) {
      this.#detours += 1;
      connection.close();
      throw new NotOpened("the WebSocket could not be opened");
    }
    this.#isBlocked = !this.#hadWebSocket;
    return connection;
  }

  #judge(error: unknown): string | DeltawireError {
    if (error instanceof NotOpened) {
      const hint = "or it does not allow this page's origin";
      return this.#wasOpen || !("document" in globalThis) ? error.message : `${error.message}, ${hint}`;
    }
    if (!(error instanceof HttpRefusal)) {
      return error instanceof DeltawireError ? error : fault(error);
    }
    this.#told = error.retryAfter;
    const { status, message } = error;
    const isMissing = status === 404 && this.#options.create !== false && this.#options.transport !== "sse";
    if (isMissing) {
      return "the WebSocket could not be opened, and this gateway has no server-sent events";
    }
    if (status === 401 && this.#wasOpen && this.tokens.noteRefusal()) {
      return `HTTP 401: ${message}`; // it expired meanwhile, or the function returned an old one
    }
    return judgeStatus(status, message);
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const reason = this.#failure;
    if (reason === null) {
      return;
    }
    const seconds = this.#retries.waitAfterFailure(performance.now() / 1000, Math.random(), this.#told);
    this.#failure = null;
    if (seconds === null) {
      throw new DeltawireError("unreachable", `no gateway at ${this.#addresses.gateway}: ${reason}`);
    }
    this.#options.onStatus?.({ state: "waiting", reason, seconds });
    const told = this.#told;
    this.#told = 0;
    await new Promise<void>((resolve) => {
      const go = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", go);
        this.#wake = () => undefined;
        resolve();
      };
      const timer = setTimeout(go, seconds * 1000);
      signal.addEventListener("abort", go);
      if (told === 0) {
        this.#wake = go;
      }
    });
    signal.throwIfAborted();
  }
}

const fault = (cause: unknown): DeltawireError =>
  new DeltawireError("protocol_fault", "the server is not a gateway", { cause });
