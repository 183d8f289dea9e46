/** Notices a peer that vanished without closing its connection, and a device that slept (SPEC §5.8). */

/** Seconds that the gateway has to answer a ping after the device or the page woke. */
const ANSWER = 5;

/** Watches one connection. */
export class Liveness {
  readonly #limit: number; // milliseconds of silence; 0 for any
  readonly #drop: () => void;
  #heard = Date.now(); // not `performance.now`, which stands still while some devices sleep
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param heartbeat seconds between signs of life that the gateway was asked for; 0 for none.
   * @param drop called when the peer is gone.
   */
  constructor(heartbeat: number, drop: () => void) {
    this.#limit = heartbeat * 2000;
    this.#drop = drop;
    this.#watch(this.#limit);
  }

  /** Notes a sign of life. */
  heard(): void {
    this.#heard = Date.now();
  }

  /** Checks at once, because the device may have slept: `ping` asks the gateway for an answer. */
  check(ping: () => boolean): void {
    if (this.#limit > 0 && Date.now() - this.#heard >= this.#limit) {
      this.#drop();
    } else if (ping()) {
      const asked = Date.now();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => (this.#heard < asked ? this.#drop() : this.#watch(this.#limit)), ANSWER * 1000);
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #watch(milliseconds: number): void {
    if (this.#limit > 0) {
      this.#timer = setTimeout(() => {
        const left = this.#heard + this.#limit - Date.now();
        if (left > 0) {
          this.#watch(left);
        } else {
          this.#drop();
        }
      }, milliseconds);
    }
  }
}

/** Calls back whenever a page is looked at again or the network is back; returns what ends this. */
export function onWake(callback: () => void): () => void {
  const page = globalThis.document as Document | undefined;
  const seen = (): void => {
    if (page?.visibilityState === "visible") {
      callback();
    }
  };
  page?.addEventListener("visibilitychange", seen);
  globalThis.addEventListener?.("online", callback);
  return () => {
    page?.removeEventListener("visibilitychange", seen);
    globalThis.removeEventListener?.("online", callback);
  };
}
