/** What a subscription can fail with, and which ends of a connection are worth another try (SPEC §8). */

import type { Problem } from "./messages.ts";

/**
 * Why a subscription failed:
 *
 * - `unreachable`: no gateway answered until the client gave up
 * - `unauthorized`: the token is missing or was refused (HTTP 401)
 * - `bad_request`, `forbidden`, `position_ahead`, `not_found`, `message_too_big` …: as in SPEC §8
 * - `refused`: refused with a status or a close code that this version does not know
 * - `protocol_fault`: the gateway broke the protocol, or the address is another program's
 * - `text_mismatch`: the text of a message differs from its digest
 * - `token_unavailable`: the function that provides tokens failed; `cause` is what it threw
 * - `not_permitted`, `unknown_message`, `not_delivered`, `timeout`: of one signal; the subscription goes on
 */
export type ErrorCode =
  | "unreachable"
  | "unauthorized"
  | "bad_request"
  | "forbidden"
  | "position_ahead"
  | "not_found"
  | "fenced"
  | "stream_closed"
  | "message_too_big"
  | "refused"
  | "protocol_fault"
  | "text_mismatch"
  | "token_unavailable"
  | "not_permitted"
  | "unknown_message"
  | "not_delivered"
  | "timeout";

export interface ErrorDetails {
  /** The code of the WebSocket's close frame. */
  readonly closeCode?: number;
  /** The HTTP status. */
  readonly status?: number;
  /** The gateway's `problem` message. */
  readonly problem?: Problem;
  readonly cause?: unknown;
}

const RETRYABLE: ReadonlySet<ErrorCode> = new Set(["unreachable", "token_unavailable", "not_delivered", "timeout"]);

/** The one error of this library; `message` is one line that can be shown to a user. */
export class DeltawireError extends Error {
  override readonly name = "DeltawireError";
  readonly code: ErrorCode;
  readonly closeCode: number | undefined;
  readonly status: number | undefined;
  readonly problem: Problem | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.closeCode = details.closeCode;
    this.status = details.status;
    this.problem = details.problem;
  }

  /** Whether the same call can succeed later. */
  get retryable(): boolean {
    return RETRYABLE.has(this.code);
  }
}

/** Problems about one message; a close follows every other problem. */
const STAYS_OPEN: ReadonlySet<string> = new Set([
  "invalid_event",
  "sequence_gap",
  "stream_full",
  "unknown_message",
  "not_permitted",
  "invalid_token",
]);

const BY_CLOSE_CODE: Readonly<Record<number, ErrorCode>> = {
  1009: "message_too_big",
  4500: "fenced",
  4501: "stream_closed",
  4502: "bad_request",
  4503: "forbidden",
  4504: "position_ahead",
  4505: "not_found",
};

const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
};

/** How a connection ended. */
export interface End {
  /** The close code; undefined for server-sent events, which have none. */
  readonly code?: number;
  readonly reason: string;
}

const isRetryable = (code: number): boolean =>
  [1000, 1001, 1005, 1011, 1012, 1013, 1014].includes(code) || (code >= 4000 && code <= 4499);

/**
 * Why a connection ended: the reason if the subscription can be resumed, otherwise the error.
 *
 * 1000 is worth another try too: without `stream_end` the stream has not ended.
 */
export function judgeEnd(end: End, problem: Problem | undefined): string | DeltawireError {
  const cause = problem !== undefined && !STAYS_OPEN.has(problem.code) ? problem : undefined;
  const text = cause?.message || end.reason;
  if (end.code === undefined) {
    return cause === undefined || cause.retryable ? text : refusedBy(cause, text);
  }
  if (end.code === 1006) {
    return text || "the connection was lost";
  }
  if (isRetryable(end.code)) {
    return text ? `closed with ${end.code}: ${text}` : `closed with ${end.code}`;
  }
  const code = BY_CLOSE_CODE[end.code] ?? "refused";
  return new DeltawireError(code, `refused: ${text || "no reason given"} (close ${end.code})`, {
    closeCode: end.code,
    ...(cause && { problem: cause }),
  });
}

function refusedBy(problem: Problem, text: string): DeltawireError {
  const known = Object.values(BY_CLOSE_CODE).find((code) => code === problem.code);
  return new DeltawireError(known ?? "refused", `refused: ${text}`, { problem });
}

const RETRIED_STATUS: ReadonlySet<number> = new Set([429, 500, 502, 503, 504]);

/** Why a request was refused: the reason if another one makes sense later, otherwise the error. */
export function judgeStatus(status: number, detail: string): string | DeltawireError {
  if (RETRIED_STATUS.has(status)) {
    return `HTTP ${status}: ${detail}`;
  }
  return new DeltawireError(BY_STATUS[status] ?? "refused", `refused: ${detail} (HTTP ${status})`, { status });
}
