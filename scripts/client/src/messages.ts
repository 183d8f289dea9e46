/** The messages of the protocol (SPEC §4.2, §5.2), as types and as checks of what a gateway sends. */

import { DeltawireError } from "./errors.ts";

interface Envelope<Type extends string, Data> {
  readonly type: Type;
  /** The first seq that a folded event stands for; absent if it stands for its own alone. */
  readonly first?: number;
  readonly seq: number;
  readonly timestamp: string;
  /** Whether its producer marked it as urgent. */
  readonly urgent?: boolean;
  readonly data: Readonly<Data>;
}

export type TextDelta = Envelope<"text_delta", { text: string; index?: number; choice?: number; kind?: string }>;
export type Thinking = Envelope<"thinking", { thinking: string; index?: number; choice?: number; kind?: string }>;
export type ContentStart = Envelope<
  "content_start",
  { index: number; kind?: string; id?: string; name?: string; choice?: number }
>;
export type ContentEnd = Envelope<"content_end", { index: number; choice?: number; kind?: string }>;
export type MessageStart = Envelope<
  "message_start",
  { message_id: string; model?: string; provider?: string; traceparent?: string }
>;
export type MessageStop = Envelope<
  "message_stop",
  { message_id: string; stop_reason: string; choice?: number; digest?: Digest }
>;
export type Usage = Envelope<
  "usage",
  {
    prompt_tokens: number;
    completion_tokens: number;
    total_tokens: number;
    cached_tokens?: number;
    reasoning_tokens?: number;
  }
>;
export type ErrorEvent = Envelope<"error", { error: string; code?: string; retryable?: boolean }>;
export type ToolDelta = Envelope<
  "tool_delta",
  { index: number; partial_json: string; choice?: number; kind?: string }
>;
export type Extension = Envelope<"extension", { provider: string; name: string; data: unknown }>;

/** An event of a stream; `type` tells which. */
export type StreamEvent =
  | TextDelta
  | Thinking
  | ContentStart
  | ContentEnd
  | MessageStart
  | MessageStop
  | Usage
  | ErrorEvent
  | ToolDelta
  | Extension;

export type EventType = StreamEvent["type"];

/** What stands in place of the events `first` to `seq`, which this reader does not get. */
export interface Gap {
  readonly type: "gap";
  readonly first: number;
  readonly seq: number;
  readonly reason: "dropped" | "evicted" | "epoch_changed";
}

/** What a subscription yields. */
export type Item = StreamEvent | Gap;

/** The length and the hash of a message's text (SPEC §4.4). */
export interface Digest {
  readonly first: number;
  readonly characters: number;
  readonly sha256: string;
}

/** Where a reader stands: the last seq that it has, and its epoch. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

export type Policy = "coalesce" | "block" | "drop_newest" | "drop_oldest" | "disconnect";

export interface Subscribed {
  readonly type: "subscribed";
  readonly stream: string;
  readonly epoch: string;
  readonly floor: number;
  readonly head: number;
  readonly after: number;
  readonly policy: Policy;
  readonly buffer: number;
  readonly recovered: boolean;
  readonly closed: boolean;
}

export interface StreamEnd {
  readonly type: "stream_end";
  readonly seq: number;
  readonly reason: "closed" | "inactive" | "shutdown";
}

export interface Problem {
  readonly type: "problem";
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly resume_after?: number;
}

export type Control =
  | Subscribed
  | StreamEnd
  | Problem
  | { readonly type: "caught_up"; readonly seq: number }
  | { readonly type: "signal_result"; readonly delivered: number; readonly id?: string }
  | { readonly type: "token_accepted" }
  | { readonly type: "heartbeat"; readonly head: number }
  | { readonly type: "urgent"; readonly event: unknown }
  | { readonly type: "pong" };

export type Message = Item | Control;

type Check = (value: unknown) => boolean;
type Fields = Readonly<Record<string, Check>>;

const isString: Check = (value) => typeof value === "string";
const isBoolean: Check = (value) => typeof value === "boolean";
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isSeq: Check = (value) => isCount(value) && value !== 0;
const isPresent: Check = (value) => value !== undefined;

const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The first field that is not what it must be; undefined if all are. */
const wrongField = (value: Record<string, unknown>, fields: Fields): string | undefined =>
  Object.keys(fields).find((name) => !(fields[name] as Check)(value[name]));

const has =
  (fields: Fields): Check =>
  (value) =>
    isObject(value) && wrongField(value, fields) === undefined;

const event = (data: Fields): Fields => ({
  first: optional(isSeq),
  seq: isSeq,
  timestamp: isString,
  data: has({ index: optional(isCount), choice: optional(isCount), ...data }),
});

const isDigest = has({ first: isSeq, characters: isCount, sha256: isString });

const EVENTS: Readonly<Record<EventType, Fields>> = {
  text_delta: event({ text: isString }),
  thinking: event({ thinking: isString }),
  content_start: event({ index: isCount }),
  content_end: event({ index: isCount }),
  message_start: event({ message_id: isString }),
  message_stop: event({ message_id: isString, stop_reason: isString, digest: optional(isDigest) }),
  usage: event({ prompt_tokens: isCount, completion_tokens: isCount, total_tokens: isCount }),
  error: event({ error: isString }),
  tool_delta: event({ index: isCount, partial_json: isString }),
  extension: event({ provider: isString, name: isString, data: isPresent }),
};

const MESSAGES: Readonly<Record<Message["type"], Fields>> = {
  ...EVENTS,
  gap: { first: isSeq, seq: isCount, reason: isString },
  subscribed: { epoch: isString, after: isCount, recovered: isBoolean, closed: isBoolean },
  caught_up: { seq: isCount },
  stream_end: { seq: isCount, reason: isString },
  problem: { code: isString, message: isString, retryable: isBoolean },
  signal_result: { delivered: isCount, id: optional(isString) },
  token_accepted: {},
  heartbeat: { head: isCount },
  urgent: { event: isObject },
  pong: {},
};

/** Whether a message is an event of the stream. */
export const isEvent = (message: Message): message is StreamEvent => message.type in EVENTS;

/**
 * Decodes a message from the gateway; null for a type that this version does not know (SPEC §3.1).
 *
 * @throws DeltawireError `protocol_fault`: it is no message of this protocol.
 */
export function decode(payload: string): Message | null {
  let value: unknown;
  try {
    value = JSON.parse(payload);
  } catch {
    throw invalid("it is not JSON");
  }
  return check(value);
}

/** Likewise, of a message that is no longer text. */
export function check(value: unknown): Message | null {
  if (!isObject(value) || typeof value["type"] !== "string") {
    throw invalid("it is not an object with a type");
  }
  const type = value["type"];
  if (!Object.hasOwn(MESSAGES, type)) {
    return null;
  }
  const wrong = wrongField(value, MESSAGES[type as Message["type"]]);
  if (wrong !== undefined) {
    throw invalid(`field ${wrong} of ${type} is missing or wrong`);
  }
  return value as unknown as Message;
}

const invalid = (why: string): DeltawireError =>
  new DeltawireError("protocol_fault", `the gateway sent an invalid message: ${why}`);
