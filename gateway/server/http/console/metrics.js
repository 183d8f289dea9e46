/** The gateway's metrics at a glance. */

import { get, Refused } from "./gateway.js";

const LINE = /^(\w+)(?:\{([^}]*)\})? (\S+)$/;

/** The sums of the series of each metric, by name. */
export function parse(text) {
  const sums = {};
  for (const line of text.split("\n")) {
    const [, name, , value] = LINE.exec(line) ?? [];
    if (name) {
      sums[name] = (sums[name] ?? 0) + Number(value);
    }
  }
  return sums;
}

const number = (value) => Math.round(value ?? 0).toLocaleString("en");

/** Shows the metrics now, with rates since the last call. */
export class Glance {
  #element;
  #last = null;

  constructor(element) {
    this.#element = element;
  }

  async show() {
    try {
      const sums = parse(await (await get("/metrics")).text());
      const now = performance.now();
      this.#element.textContent = this.#words(sums, now);
      this.#last = { sums, now };
    } catch (error) {
      const isHidden = error instanceof Refused && error.status === 403;
      this.#element.textContent = isHidden ? "metrics need a token with admin of all streams" : error.message;
    }
  }

  #words(sums, now) {
    const rate = (name) =>
      this.#last ? (sums[name] - this.#last.sums[name]) / ((now - this.#last.now) / 1000) : 0;
    return [
      `streams ${number(sums.deltawire_streams)}`,
      `readers ${number(sums.deltawire_consumers)}`,
      `events/s ${number(rate("deltawire_events_total"))}`,
      `deliveries/s ${number(rate("deltawire_deliveries_total"))}`,
      `largest lag ${number(sums.deltawire_consumer_lag_events_max)}`,
      `memory ${number(sums.deltawire_memory_bytes / 1024 / 1024)} MiB`,
    ].join(" · ");
  }
}
