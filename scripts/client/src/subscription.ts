/** Reading a stream: each event once, across lost connections. */

import type { Connection, Listener } from "./connection.ts";
import { Connector } from "./connector.ts";
import { DeltawireError, judgeEnd, type End } from "./errors.ts";
import { Liveness, onWake } from "./liveness.ts";
import {
  check,
  decode,
  isEvent,
  type Item,
  type Message,
  type Position,
  type Problem,
  type StreamEnd,
  type Subscribed,
} from "./messages.ts";
import { canHash, Proof, verify } from "./proof.ts";
import { Queue } from "./queue.ts";
import { addressesOf, DEFAULT_HEARTBEAT, isFiltered, type SubscribeOptions, type Transport } from "./request.ts";
import { Signals } from "./signals.ts";
import { Tracker } from "./tracker.ts";

/**
 * Characters that may wait to be read. Above it the connection is closed, and resumed once all of it has been read: a
 * WebSocket in a page can't be told to wait.
 */
const MAX_UNREAD = 8 * 1024 * 1024;

/** Characters that a message counts for besides its own. */
const MESSAGE_COST = 256;

/** Seconds to wait for the answer to a signal, unless the program says otherwise. */
const SIGNAL_TIMEOUT = 10;

interface Unread {
  readonly message: Message;
  readonly position: Position | null;
  readonly size: number;
  /** Of a `message_stop` with a digest: whether the text is what the gateway sent. */
  readonly isWhole: Promise<boolean> | undefined;
}

/**
 * A subscription to one stream. It begins at once, resumes after a lost connection, a restart of the gateway and every
 * retryable close, and yields each event once:
 *
 *     for await (const item of subscribe("https://gateway.example", "demo")) { … }
 *
 * Leaving the loop closes it.
 */
export class Subscription implements AsyncIterable<Item> {
  /** Where the reader stands: epoch and last seq of what was yielded. Resume from it with the option `position`. */
  position: Position | null;
  /** The gateway's answer on the current connection. */
  subscribed: Subscribed | null = null;
  /** Whether everything up to the time of connecting was yielded, so that the next items are live. */
  caughtUp = false;
  /** How the stream ended, once its end is reached. */
  ended: StreamEnd | null = null;
  /** The number of messages whose text was verified by its hash. Always 0 where `canVerify` is false. */
  verified = 0;
  /** Whether hashes can be computed: browsers do so on https and on localhost only. Elsewhere lengths are compared. */
  readonly canVerify = canHash();

  readonly #options: SubscribeOptions;
  readonly #connector: Connector;
  readonly #tracker: Tracker;
  readonly #proof: Proof;
  readonly #signals = new Signals();
  readonly #unread = new Queue<Unread>();
  readonly #leaving = new AbortController();
  #unreadSize = 0;
  #isFull = false; // too much is unread
  #connection: Connection | null = null;
  #liveness: Liveness | null = null;
  #problem: Problem | undefined;
  #isOver = false; // the end came, or the reader has left
  #failure: { readonly error: unknown } | null = null;
  #turn: Promise<unknown> = Promise.resolve(); // the latest `next`
  #onRead: () => void = () => undefined; // all that came has been read
  #stop: () => void = () => undefined; // ends what is waited for on the gateway's side

  /** @throws TypeError the address, the stream id or the token is wrong. */
  constructor(url: string | URL, stream: string, options: SubscribeOptions = {}) {
    this.#options = options;
    this.position = options.position ?? null;
    this.#connector = new Connector(addressesOf(url, stream, options), options);
    this.#tracker = new Tracker(this.position, isFiltered(options));
    this.#proof = new Proof(options);
    const { signal } = options;
    const abort = (): void => this.#leave({ error: signal?.reason });
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener("abort", abort);
    const stopWaking = onWake(() => this.#wake());
    void this.#run().finally(() => {
      signal?.removeEventListener("abort", abort);
      stopWaking();
    });
  }

  /** What carries the current connection; null while there is none. */
  get transport(): Transport | null {
    return this.#connection?.transport ?? null;
  }

  [Symbol.asyncIterator](): AsyncIterator<Item, undefined> {
    return {
      next: () => {
        const result = this.#turn.then(() => this.#next());
        this.#turn = result.catch(() => undefined);
        return result;
      },
      return: async () => {
        this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /** Ends the subscription; iterating ends too. */
  close(): void {
    this.#leave(null);
  }

  /**
   * Sends a signal to the stream's producers, as soon as there is a connection.
   *
   * @param options `data` is any JSON value; `timeout` are the seconds to wait for the gateway's answer, default 10.
   * @returns the number of producers that it was delivered to.
   * @throws DeltawireError `not_permitted`: the token does not allow it. `timeout`, `not_delivered`: it may or may not
   *   have arrived.
   */
  signal(name: string, options: { readonly data?: unknown; readonly timeout?: number } = {}): Promise<number> {
    return this.#signals.send(name, options.data, options.timeout ?? SIGNAL_TIMEOUT);
  }

  /** Asks the producers to stop the answer, or the one with this id; otherwise like `signal`. */
  cancel(messageId?: string): Promise<number> {
    return this.signal("cancel", messageId === undefined ? {} : { data: { message_id: messageId } });
  }

  // The reader's side

  async #next(): Promise<IteratorResult<Item, undefined>> {
    for (;;) {
      const unread = await this.#unread.take();
      if (unread === undefined) {
        if (this.#failure !== null) {
          throw this.#failure.error;
        }
        return { done: true, value: undefined };
      }
      this.#unreadSize -= unread.size;
      if (unread.isWhole !== undefined && !(await unread.isWhole)) {
        this.#leave({ error: mismatch(this.position?.seq) });
        continue;
      }
      if (this.#unread.length === 0) {
        this.#isFull = false;
        this.#onRead();
      }
      this.position = unread.position;
      const { message } = unread;
      if (isEvent(message) || message.type === "gap") {
        this.verified += unread.isWhole !== undefined && this.canVerify ? 1 : 0;
        return { done: false, value: message };
      }
      this.#heed(message);
    }
  }

  #heed(message: Message): void {
    if (message.type === "subscribed") {
      this.subscribed = message;
      this.caughtUp = false;
    } else if (message.type === "caught_up") {
      this.caughtUp = true;
    } else if (message.type === "stream_end") {
      this.ended = message;
    }
  }

  #leave(failure: { readonly error: unknown } | null): void {
    this.#isOver = true;
    this.#failure ??= failure;
    this.#unread.discard();
    this.#leaving.abort();
    this.#stop();
  }

  // The gateway's side

  async #run(): Promise<void> {
    try {
      while (!this.#isOver) {
        await this.#room();
        const failure = await this.#converse();
        if (failure !== null && !this.#isOver) {
          this.#connector.lost(failure);
        }
      }
    } catch (error) {
      if (!this.#isOver) {
        this.#failure = { error };
      }
    }
    this.#isOver = true;
    this.#signals.end();
    this.#unread.end();
    this.#options.onStatus?.(
      this.#failure === null ? { state: "ended" } : { state: "failed", error: this.#failure.error },
    );
  }

  /** Reads from one connection until it ends; returns why it ended, or null if nothing is wrong. */
  async #converse(): Promise<string | DeltawireError | null> {
    const { signal } = this.#leaving;
    let listener!: Listener;
    const ending = new Promise<End | null>((resolve, reject) => {
      listener = {
        message: (payload) => {
          this.#liveness?.heard();
          try {
            if (this.#take(payload)) {
              resolve(null);
            }
          } catch (error) {
            reject(error);
          }
        },
        alive: () => this.#liveness?.heard(),
        end: resolve,
      };
      this.#stop = () => resolve(null);
    });
    ending.catch(() => undefined); // it may fail before it is waited for
    this.#problem = undefined;
    const connection = await this.#connector.open(this.#tracker.position, listener, signal);
    if (connection === null) {
      this.#takeEnd();
      return null;
    }
    this.#connection = connection;
    const liveness = new Liveness(this.#options.heartbeat ?? DEFAULT_HEARTBEAT, () =>
      listener.end({ code: 1006, reason: "the gateway stopped answering" }),
    );
    this.#liveness = liveness;
    const stopRenewing = this.#renewTokens(connection);
    this.#signals.connected(connection);
    try {
      const end = await ending;
      return end && judgeEnd(end, this.#problem);
    } finally {
      stopRenewing();
      liveness.stop();
      connection.close();
      this.#connection = this.#liveness = null;
      this.#signals.disconnected();
    }
  }

  /** Takes a message; returns whether to read no further from this connection. */
  #take(payload: string): boolean {
    if (this.#isOver || this.#isFull) {
      return true;
    }
    const message = decode(payload);
    if (!this.#tracker.accept(message) || message === null) {
      return false;
    }
    const claim = this.#proof.take(message);
    const size = payload.length + MESSAGE_COST;
    this.#unreadSize += size;
    this.#unread.push({ message, position: this.#tracker.position, size, isWhole: claim && verify(claim) });
    this.#isFull = this.#unreadSize > MAX_UNREAD;
    this.#react(message);
    return this.#isOver || this.#isFull;
  }

  #react(message: Message): void {
    switch (message.type) {
      case "subscribed":
        this.#options.onStatus?.({ state: "replaying" });
        break;
      case "caught_up":
        this.#connector.progressed();
        this.#options.onStatus?.({ state: "live" });
        break;
      case "signal_result":
        this.#signals.answered(message.id, message.delivered);
        break;
      case "problem":
        this.#problem = message;
        if (message.code === "not_permitted" || message.code === "unknown_message") {
          this.#signals.refused(message.code, message.message);
        }
        break;
      case "stream_end":
        this.#isOver = true;
        break;
      case "urgent": {
        const copy = check(message.event);
        if (copy !== null && isEvent(copy)) {
          this.#options.onUrgent?.(copy);
        }
        break;
      }
      default:
        if (isEvent(message) || message.type === "gap") {
          this.#connector.progressed();
        }
    }
  }

  /** Takes that the stream has ended and nothing is left to read, which server-sent events say with a status. */
  #takeEnd(): void {
    const position = this.#tracker.position;
    const message: StreamEnd = { type: "stream_end", seq: position?.seq ?? 0, reason: "closed" };
    this.#unread.push({ message, position, size: 0, isWhole: undefined });
    this.#isOver = true;
  }

  /** Waits until everything that came has been read, if it was too much. */
  async #room(): Promise<void> {
    if (this.#isFull) {
      await new Promise<void>((resolve) => {
        this.#onRead = this.#stop = resolve;
      });
    }
  }

  #renewTokens(connection: Connection): () => void {
    const { tokens } = this.#connector;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = connection.transport !== "websocket"; // else the gateway closes, and the next connection has a fresh one
    const plan = (): void => {
      const due = tokens.due();
      if (due !== undefined && !isOver) {
        timer = setTimeout(() => void renew(), Math.min(due * 1000, 2 ** 31 - 1));
      }
    };
    const renew = async (): Promise<void> => {
      const token = await tokens.renew();
      if (token !== undefined && !isOver) {
        connection.send({ type: "token", token });
      }
      plan();
    };
    plan();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }

  #wake(): void {
    this.#connector.wake();
    const connection = this.#connection;
    this.#liveness?.check(() => connection?.send({ type: "ping" }) ?? false);
  }
}

const mismatch = (seq: number | undefined): DeltawireError =>
  new DeltawireError(
    "text_mismatch",
    `the text of the message that ends after event ${seq ?? 0} is not what the gateway sent`,
  );

/**
 * Follows a stream.
 *
 * @param url the gateway's address: `https://HOST`, `wss://HOST`, or a path on the page's own host such as `/`.
 * @param stream the stream's id.
 * @throws TypeError an argument is wrong. Iterating throws `DeltawireError` for everything else.
 */
export function subscribe(url: string | URL, stream: string, options: SubscribeOptions = {}): Subscription {
  return new Subscription(url, stream, options);
}
