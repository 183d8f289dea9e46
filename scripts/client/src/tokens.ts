/**
 * The tokens a reader sends: where they come from, and when a fresh one is due.
 *
 * A token function is called for each connection, and again before a token expires, so that the connection can outlive
 * the token. The expiry is read from the token, unverified and by this machine's clock; if that is wrong, the gateway
 * closes with 4001, and the client gets a fresh token then.
 */

import { DeltawireError } from "./errors.ts";

export type TokenProvider = string | (() => string | Promise<string>);

/** Seconds before its expiry at which a token is replaced; a fifth of its remaining lifetime if that is shorter. */
const LEAD = 60;

/** Least seconds between two renewals: the function may not have a fresh token yet. */
const PAUSE = 1;

const VISIBLE = /^[!-~]+$/; // what a header can carry; a JWT uses fewer characters

export class Tokens {
  readonly #provider: TokenProvider | undefined;
  #last: string | undefined;
  #refused: string | undefined;

  /** @throws TypeError the given text can't be a token. */
  constructor(provider: TokenProvider | undefined) {
    if (typeof provider === "string" && !VISIBLE.test(provider)) {
      throw new TypeError("the token must be one or more visible ASCII characters");
    }
    this.#provider = provider;
  }

  /**
   * The token for a new connection; undefined if none is used.
   *
   * @throws DeltawireError `token_unavailable`: the function that provides it failed.
   */
  async take(): Promise<string | undefined> {
    if (typeof this.#provider !== "function") {
      return this.#provider;
    }
    let token: unknown;
    try {
      token = await this.#provider();
    } catch (cause) {
      throw new DeltawireError("token_unavailable", "the token function failed", { cause });
    }
    if (typeof token !== "string" || !VISIBLE.test(token)) {
      throw new DeltawireError("token_unavailable", "the token function did not return a token");
    }
    this.#last = token;
    return token;
  }

  /** A fresh token for the current connection; undefined if there is none yet. */
  async renew(): Promise<string | undefined> {
    const before = this.#last;
    try {
      const token = await this.take();
      return token === before ? undefined : token;
    } catch {
      return undefined; // the connection still works; opening the next one will fail
    }
  }

  /** Seconds after which the current connection needs a fresh token; undefined means never. */
  due(now: number = Date.now() / 1000): number | undefined {
    const expiry = typeof this.#provider === "function" ? expiryOf(this.#last) : undefined;
    return expiry === undefined ? undefined : Math.max(expiry - now - Math.min(LEAD, (expiry - now) / 5), PAUSE);
  }

  /** Notes that the gateway refused the last token; returns whether a function may provide another. */
  noteRefusal(): boolean {
    const isNews = typeof this.#provider === "function" && this.#last !== this.#refused;
    this.#refused = this.#last;
    return isNews;
  }
}

/** When a token expires, in seconds since 1970, read from the token; undefined if that can't be read. */
function expiryOf(token: string | undefined): number | undefined {
  try {
    const payload = (token ?? "").split(".")[1] ?? "";
    const claims: { exp?: unknown } = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims.exp === "number" ? claims.exp : undefined;
  } catch {
    return undefined;
  }
}
