/** Signals that wait for the gateway's answer (SPEC §5.7). */

import type { Connection } from "./connection.ts";
import { DeltawireError, type ErrorCode } from "./errors.ts";

interface Pending {
  readonly message: object;
  isSent: boolean; // on the connection, with which its answer is lost
  isPosted: boolean; // in a request of its own
  readonly resolve: (delivered: number) => void;
  readonly reject: (error: DeltawireError) => void;
}

export class Signals {
  readonly #pending = new Map<string, Pending>(); // in the order in which the gateway answers
  #connection: Connection | null = null;
  #count = 0;
  #over: string | null = null;

  /** Sends a signal as soon as there is a connection; returns how many producers got it. */
  send(name: string, data: unknown, timeout: number): Promise<number> {
    if (this.#over !== null) {
      return Promise.reject(new DeltawireError("not_delivered", this.#over));
    }
    this.#count += 1;
    const id = String(this.#count);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(id, "timeout", "the gateway did not answer the signal in time");
      }, timeout * 1000);
      const settle = (): void => {
        clearTimeout(timer);
        this.#pending.delete(id);
      };
      this.#pending.set(id, {
        message: { type: "signal", name, id, ...(data !== undefined && { data }) },
        isSent: false,
        isPosted: false,
        resolve: (delivered) => {
          settle();
          resolve(delivered);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      });
      this.#flush();
    });
  }

  connected(connection: Connection): void {
    this.#connection = connection;
    this.#flush();
  }

  /** What was sent and not answered may or may not have arrived. */
  disconnected(): void {
    this.#connection = null;
    for (const [id, { isSent }] of this.#pending) {
      if (isSent) {
        this.#fail(id, "not_delivered", "the connection was lost before the gateway answered the signal");
      }
    }
  }

  answered(id: string | undefined, delivered: number): void {
    this.#pending.get(id ?? "")?.resolve(delivered);
  }

  /** The gateway refused the oldest signal: it answers in order. */
  refused(code: ErrorCode, message: string): void {
    for (const [id, { isSent }] of this.#pending) {
      if (isSent) {
        this.#fail(id, code, message);
        return;
      }
    }
  }

  /** Nothing can be sent any more. */
  end(): void {
    this.#over = "the subscription has ended";
    for (const [id, { isPosted }] of this.#pending) {
      if (!isPosted) {
        this.#fail(id, "not_delivered", this.#over);
      }
    }
  }

  #flush(): void {
    const connection = this.#connection;
    if (connection === null) {
      return;
    }
    for (const pending of this.#pending.values()) {
      if (pending.isSent || pending.isPosted) {
        continue;
      }
      if (connection.post === undefined) {
        pending.isSent = connection.send(pending.message);
      } else {
        pending.isPosted = true;
        connection.post(pending.message).then(pending.resolve, pending.reject);
      }
    }
  }

  #fail(id: string, code: ErrorCode, message: string): void {
    this.#pending.get(id)?.reject(new DeltawireError(code, message));
  }
}
