/** Requests to the gateway that served this page, with the token of this tab. */

const KEY = "deltawire-token";

/** Streams of one page of the list: the most that a gateway gives. */
const PAGE = 1000;

/** What the gateway refused, in its own words. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The token; empty if there is none. It stays in this tab, and survives a reload. */
export const token = () => sessionStorage.getItem(KEY) ?? "";

export function setToken(text) {
  if (text) {
    sessionStorage.setItem(KEY, text);
  } else {
    sessionStorage.removeItem(KEY);
  }
}

/** @throws Refused with the gateway's reason. */
export async function get(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const response = await fetch(path, { headers, cache: "no-store" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Refused(response.status, problem.detail ?? `HTTP ${response.status}`);
  }
  return response;
}

/** The info of all streams that the token may see, ordered by id. */
export async function listStreams() {
  const streams = [];
  for (let after = ""; ; after = encodeURIComponent(streams.at(-1).id)) {
    const page = await (await get(`/v1/streams?limit=${PAGE}${after && `&after=${after}`}`)).json();
    streams.push(...page);
    if (page.length < PAGE) {
      return streams;
    }
  }
}

export const streamInfo = async (id) => (await get(`/v1/streams/${encodeURIComponent(id)}`)).json();

/** A WebSocket to which events of a stream are published. */
export function openPublisher(id, query) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const protocols = ["deltawire.v1.json", ...(token() ? [`deltawire.bearer.${token()}`] : [])];
  return new WebSocket(`${scheme}//${location.host}/v1/streams/${encodeURIComponent(id)}/publish?${query}`, protocols);
}
