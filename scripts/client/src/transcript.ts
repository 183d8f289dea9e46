/** What the events of a stream say together: its messages, with their text. */

import type { ErrorEvent, Item, StreamEvent, Usage } from "./messages.ts";

export interface ToolCall {
  readonly index: number;
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  /** The arguments so far, as JSON text. */
  readonly json: string;
}

/** One answer. Only its first choice counts, where a request asked for several. */
export interface ChatMessage {
  /** Its id; empty if its beginning is missing. */
  readonly id: string;
  readonly model?: string | undefined;
  readonly text: string;
  readonly thinking: string;
  readonly tools: readonly ToolCall[];
  readonly usage?: Usage["data"] | undefined;
  readonly error?: ErrorEvent["data"] | undefined;
  /** Why it ended; undefined while it goes on. */
  readonly stopReason?: string | undefined;
  /** Whether a gap stands in place of some of its events. */
  readonly hasGap: boolean;
}

export type Transcript = readonly ChatMessage[];

const EMPTY: ChatMessage = { id: "", text: "", thinking: "", tools: [], hasGap: false };

/** The transcript after one more item; the one given stays as it is. Begin with `[]`. */
export function fold(transcript: Transcript, item: Item): Transcript {
  if (item.type === "gap" && item.reason === "epoch_changed") {
    return [];
  }
  if (item.type === "message_start") {
    const { message_id: id, model } = item.data;
    return [...transcript, { ...EMPTY, id, model }];
  }
  const last = transcript.at(-1) ?? EMPTY;
  const changed = item.type === "gap" ? { ...last, hasGap: true } : addEvent(last, item);
  return changed === last ? transcript : [...transcript.slice(0, -1), changed];
}

function addEvent(message: ChatMessage, event: StreamEvent): ChatMessage {
  if ("choice" in event.data && event.data.choice) {
    return message;
  }
  switch (event.type) {
    case "text_delta":
      return { ...message, text: message.text + event.data.text };
    case "thinking":
      return { ...message, thinking: message.thinking + event.data.thinking };
    case "content_start": {
      const { index, kind, id, name } = event.data;
      return kind === "tool_use" ? { ...message, tools: [...message.tools, { index, id, name, json: "" }] } : message;
    }
    case "tool_delta":
      return { ...message, tools: addArguments(message.tools, event.data.index, event.data.partial_json) };
    case "usage":
      return { ...message, usage: event.data };
    case "error":
      return { ...message, error: event.data };
    case "message_stop":
      return { ...message, stopReason: event.data.stop_reason };
    default:
      return message;
  }
}

function addArguments(tools: readonly ToolCall[], index: number, json: string): readonly ToolCall[] {
  const at = tools.findLastIndex((tool) => tool.index === index);
  const tool = tools[at] ?? { index, json: "" };
  const grown = { ...tool, json: tool.json + json };
  return at < 0 ? [...tools, grown] : tools.with(at, grown);
}
