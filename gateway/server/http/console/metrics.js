/** The gateway's metrics at a glance. */

import { $ } from "./dom.js";
import { request } from "./gateway.js";

const SERIES = /^(\w+)(?:\{.*\})? (\S+)$/gm;

/** The sums of the series of each metric, by name. */
function parse(text) {
  const sums = {};
  for (const [, name, value] of text.matchAll(SERIES)) {
    sums[name] = (sums[name] ?? 0) + Number(value);
  }
  return sums;
}

const number = (value) => Math.round(value ?? 0).toLocaleString("en");

let last = null; // the sums of the last call, and its time

/** Shows the metrics now, with rates since the last call. */
export async function showMetrics() {
  try {
    const sums = parse(await (await request("/metrics")).text());
    const now = performance.now();
    const rate = (name) => (last ? ((sums[name] - last.sums[name]) * 1000) / (now - last.now) : 0);
    $("metrics").textContent = [
      `streams ${number(sums.deltawire_streams)}`,
      `readers ${number(sums.deltawire_consumers)}`,
      `events/s ${number(rate("deltawire_events_total"))}`,
      `deliveries/s ${number(rate("deltawire_deliveries_total"))}`,
      `largest lag ${number(sums.deltawire_consumer_lag_events_max)}`,
      `memory ${number(sums.deltawire_memory_bytes / 1024 / 1024)} MiB`,
    ].join(" · ");
    last = { sums, now };
  } catch (error) {
    $("metrics").textContent =
      error.status === 403 ? "metrics need a token with admin of all streams" : error.message;
  }
}
