/** Requests to the gateway that served this page, with the token of this tab. */

const KEY = "deltawire-token";

/** Streams of one page of the list: the most that a gateway gives. */
const PAGE = 1000;

/** The token; empty if there is none. It stays in this tab, and survives a reload. */
export const token = () => sessionStorage.getItem(KEY) ?? "";

export const setToken = (text) => sessionStorage.setItem(KEY, text);

export const streamPath = (id) => `/v1/streams/${encodeURIComponent(id)}`;

/** @throws Error with the gateway's reason, its `status`, and the `seq` of what it took. */
export async function request(path, { headers = {}, ...options } = {}) {
  const access = token() && { Authorization: `Bearer ${token()}` };
  const response = await fetch(path, { cache: "no-store", headers: { ...headers, ...access }, ...options });
  if (!response.ok) {
    const { detail, problems, seq } = await response.json().catch(() => ({}));
    const line = problems?.[0]?.line;
    const reason = `${line ? `line ${line}: ` : ""}${detail ?? `HTTP ${response.status}`}`;
    const asks = response.status === 401 && !access;
    throw Object.assign(new Error(asks ? "enter a token" : reason), { status: response.status, seq });
  }
  return response;
}

/** The info of all streams that the token may see, ordered by id. */
export async function listStreams() {
  const streams = [];
  for (let after = ""; ; after = encodeURIComponent(streams.at(-1).id)) {
    const page = await (await request(`/v1/streams?limit=${PAGE}${after && `&after=${after}`}`)).json();
    streams.push(...page);
    if (page.length < PAGE) {
      return streams;
    }
  }
}

export const streamInfo = async (id) => (await request(streamPath(id))).json();
