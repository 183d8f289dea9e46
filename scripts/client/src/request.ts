/** The options of a subscription, and the URLs that they make (SPEC §2.1, §5.1). */

import type { EventType, Policy, Position, StreamEvent } from "./messages.ts";
import type { Backoff } from "./retries.ts";
import type { TokenProvider } from "./tokens.ts";

/** What a subscription is doing. */
export type Status =
  | { readonly state: "connecting" }
  /** The events so far are coming. */
  | { readonly state: "replaying" }
  /** Everything up to now has come: what comes is new. */
  | { readonly state: "live" }
  /** The connection was lost; the next attempt is made in so many seconds. */
  | { readonly state: "waiting"; readonly reason: string; readonly seconds: number }
  | { readonly state: "ended" }
  | { readonly state: "failed"; readonly error: unknown };

export type Transport = "websocket" | "sse";

export interface SubscribeOptions {
  /** Where to begin without a position: at the oldest event held, or only with new events. Default `start`. */
  readonly from?: "start" | "now";
  /** Resume after this position, as `Subscription.position` had it; overrides `from`. */
  readonly position?: Position | null | undefined;
  /** What the gateway does if this reader falls behind; by default the gateway's choice. */
  readonly policy?: Policy;
  /** Lag limit in events, 1 to 10000; by default the gateway's choice. */
  readonly buffer?: number;
  /** Event types to receive; default all. */
  readonly types?: readonly EventType[];
  /** Content blocks to receive, by their index; default all. */
  readonly index?: readonly number[];
  /** Choices to receive; default all. */
  readonly choice?: readonly number[];
  /** Kinds of content blocks to receive; default all. */
  readonly kind?: readonly string[];
  /** Extensions to receive, each `PROVIDER` or `PROVIDER/NAME`; default all. */
  readonly extension?: readonly string[];
  /**
   * Event types to receive ahead while this reader is behind, beside the events that producers mark, which are the only
   * ones if it is empty. Each comes in its place, too. Default none.
   */
  readonly urgent?: readonly EventType[];
  /** Called with each event that came ahead. */
  readonly onUrgent?: (event: StreamEvent) => void;
  /** Milliseconds between writes of the gateway, 0 to 1000; deltas in between are folded. Default 0. */
  readonly interval?: number;
  /**
   * Seconds between signs of life of the gateway, 1 to 300; after twice as long without any, the connection is taken
   * for lost. 0 asks for none. Default 15.
   */
  readonly heartbeat?: number;
  /** Whether to create a stream that does not exist; otherwise it is `not_found`. Default true. */
  readonly create?: boolean;
  /** A token, or a function that returns one, called for each connection and before a token expires. */
  readonly token?: TokenProvider | undefined;
  /** Ends the subscription when aborted: iterating throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Seconds without progress after which to give up; null never gives up, 0 never retries. Default 30. */
  readonly retryFor?: number | null;
  /** The lengths of the waits between attempts, in seconds. Default 0.5 to 5. */
  readonly backoff?: Backoff;
  /** `auto` takes server-sent events where no WebSocket can be opened. Default `auto`. */
  readonly transport?: "auto" | Transport;
  /** Called whenever the status changes. */
  readonly onStatus?: (status: Status) => void;
}

/** The options that leave events out. */
const FILTERS = ["types", "index", "choice", "kind", "extension"] as const;

/** Whether a reader gets only some of the events, so that numbers may be missing. */
export const isFiltered = (options: SubscribeOptions): boolean => FILTERS.some((name) => options[name] !== undefined);

const filters = (options: SubscribeOptions): Record<string, string | undefined> =>
  Object.fromEntries(FILTERS.map((name) => [name, options[name]?.join(",")]));

/** The addresses of one stream at one gateway. */
export interface Addresses {
  readonly subscribe: (position: Position | null) => string;
  readonly sse: (position: Position | null) => string;
  /** The gateway's address, for messages. */
  readonly gateway: string;
}

const STREAM_ID = /^(?!\.\.?$)[A-Za-z0-9._:@-]{1,128}$/;

/** Seconds between signs of life: three are missed before most people reload a page. */
export const DEFAULT_HEARTBEAT = 15;

/**
 * @param url the gateway's address: `https://HOST`, `wss://HOST`, or a path on the page's own host.
 * @param stream the stream's id.
 * @throws TypeError the address or the id is wrong.
 */
export function addressesOf(url: string | URL, stream: string, options: SubscribeOptions): Addresses {
  if (!STREAM_ID.test(stream)) {
    throw new TypeError(`stream id ${JSON.stringify(stream)} is not 1 to 128 characters of A-Z a-z 0-9 . _ : @ -`);
  }
  const base = new URL(url, globalThis.location?.href);
  const isSecure = base.protocol === "https:" || base.protocol === "wss:";
  if (!/^(https?|wss?):$/.test(base.protocol) || base.search || base.hash) {
    throw new TypeError(`address ${JSON.stringify(String(url))} is not of the form https://HOST:PORT`);
  }
  const path = `//${base.host}${base.pathname.replace(/\/+$/, "")}/v1/streams/${encodeURIComponent(stream)}`;
  const query = (position: Position | null): string => {
    const text = parameters(options, position).toString();
    return text && `?${text}`;
  };
  return {
    subscribe: (position) => `${isSecure ? "wss:" : "ws:"}${path}/subscribe${query(position)}`,
    sse: (position) => `${isSecure ? "https:" : "http:"}${path}/sse${query(position)}`,
    gateway: base.origin === "null" ? `${base.protocol}//${base.host}` : base.origin,
  };
}

function parameters(options: SubscribeOptions, position: Position | null): URLSearchParams {
  const heartbeat = options.heartbeat ?? DEFAULT_HEARTBEAT;
  const wanted: Record<string, string | number | false | undefined> = {
    after: position?.seq,
    epoch: position?.epoch || undefined,
    from: position === null && options.from === "now" && "now",
    policy: options.policy,
    buffer: options.buffer,
    ...filters(options),
    urgent: options.urgent && (options.urgent.join(",") || "marked"),
    interval: options.interval || undefined,
    heartbeat: heartbeat || undefined,
    create: options.create === false && "false",
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(wanted)) {
    if (value !== undefined && value !== false) {
      query.set(name, String(value));
    }
  }
  return query;
}
