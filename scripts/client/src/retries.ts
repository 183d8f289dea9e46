/** How long to wait before another connection, and when to give up: the clock and chance are arguments. */

/** Waits that double from `initial` to `longest` seconds, each shortened at random by up to nine tenths. */
export interface Backoff {
  readonly initial: number;
  readonly longest: number;
}

export const DEFAULT_BACKOFF: Backoff = { initial: 0.5, longest: 5 };

const MAX_DOUBLINGS = 32; // far beyond any `longest`

/** One run of failures, from the first one to the next progress. */
export class Retries {
  readonly #backoff: Backoff;
  readonly #retryFor: number | null;
  #since: number | null = null;
  #attempts = 0;

  /** @param retryFor the most seconds of a run; null never gives up, 0 never retries. */
  constructor(backoff: Backoff, retryFor: number | null) {
    this.#backoff = backoff;
    this.#retryFor = retryFor;
  }

  /**
   * Seconds to wait after a failure; null to give up. The last wait ends exactly when the run's time ends.
   *
   * @param now seconds on any steady clock.
   * @param chance a random number from 0 to 1.
   * @param told seconds the gateway asked for (`Retry-After`); waited in full, plus up to half of it.
   */
  waitAfterFailure(now: number, chance: number, told = 0): number | null {
    this.#since ??= now;
    const { initial, longest } = this.#backoff;
    const delay = Math.min(longest, initial * 2 ** Math.min(this.#attempts, MAX_DOUBLINGS)) * (1 - 0.9 * chance);
    const wanted = Math.max(delay, told * (1 + chance / 2));
    this.#attempts += 1;
    if (this.#retryFor === null) {
      return wanted;
    }
    const left = this.#since + this.#retryFor - now;
    return left > 0 && left >= told ? Math.max(Math.min(wanted, left), told) : null;
  }

  /** Notes that something was delivered: the next failure begins a new run. */
  reset(): void {
    this.#since = null;
    this.#attempts = 0;
  }
}
