/** A client for streams of a deltawire gateway (protocol/SPEC.md). */

export { DeltawireError, type ErrorCode } from "./errors.ts";
export type * from "./messages.ts";
export type { Status, SubscribeOptions, Transport } from "./request.ts";
export type { Backoff } from "./retries.ts";
export { subscribe, type Subscription } from "./subscription.ts";
export type { TokenProvider } from "./tokens.ts";
export { fold, type ChatMessage, type ToolCall, type Transcript } from "./transcript.ts";
