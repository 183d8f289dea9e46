/** One message of a stream: its text, thinking, tool calls, usage and measures. */

import { element, GrowingText } from "./dom.js";
import { MarkdownView } from "./markdown.js";

/** Parts and lines that are kept of one message; the oldest go first. */
const PARTS = 200;

export class MessageView {
  element = element("article", { class: "message" });
  #about = element("p", { class: "about" });
  #end = element("p", { class: "end" });
  #parts = new Map(); // by type, index and choice
  #names = new Map(); // of blocks, from content_start
  #dirty = new Set();
  #begun = null; // times in milliseconds, of the gateway
  #first = null;
  #last = null;
  #deltas = 0;
  #folded = 0; // deltas that came in one with the first
  #usage = "";
  #stopped = "";

  constructor() {
    this.element.append(this.#about, this.#end);
  }

  /** @param event any event but `message_start`, or that which begins this message. */
  add(event) {
    const { type, data } = event;
    switch (type) {
      case "message_start":
        this.#begun = Date.parse(event.timestamp);
        this.#about.replaceChildren(...about(data));
        break;
      case "content_start":
        remember(this.#names, key(data), [data.name ?? data.kind ?? "block", data.id].filter(Boolean).join(" "));
        break;
      case "text_delta":
      case "thinking":
      case "tool_delta":
        this.#grow(event, data.text ?? data.thinking ?? data.partial_json);
        break;
      case "usage":
        this.#usage = usage(data);
        break;
      case "message_stop":
        this.#stopped = data.stop_reason;
        this.#parts.forEach((part) => part.finish?.());
        break;
      case "error":
        this.note(`error: ${[data.code, data.error].filter(Boolean).join(": ")}`, "note bad");
        break;
      case "extension":
        this.note(`${data.provider}: ${data.name}`);
        break;
    }
    this.#dirty.add(this); // the last line is new in any case
  }

  /** Adds a line about the message. */
  note(text, style = "note") {
    this.#insert(element("p", { class: style }, text.slice(0, 2000)));
  }

  #insert(made) {
    this.element.insertBefore(made, this.#end);
    if (this.element.childElementCount > PARTS) {
      this.#about.nextElementSibling.remove();
    }
  }

  #grow({ type, data, first, seq, timestamp }, text) {
    this.#last = Date.parse(timestamp);
    if (this.#first === null) {
      this.#first = this.#last;
      this.#folded = seq - (first ?? seq);
    }
    this.#deltas += seq - (first ?? seq) + 1;
    const name = `${type} ${key(data)}`;
    let part = this.#parts.get(name);
    if (!part) {
      part = this.#makePart(type, data);
      remember(this.#parts, name, part);
    }
    part.append(text);
    this.#dirty.add(part);
  }

  #makePart(type, data) {
    const title = data.choice ? `choice ${data.choice}` : "";
    if (type === "text_delta") {
      const made = element("div", { class: "text", title: title || undefined });
      this.#insert(made);
      return new MarkdownView(made);
    }
    const name = type === "thinking" ? "Thinking" : `Tool: ${this.#names.get(key(data)) ?? data.index}`;
    const plain = element("pre", { class: "plain", dir: "auto" });
    const made = element("details", {}, element("summary", {}, [name, title].filter(Boolean).join(", ")), plain);
    made.open = type === "tool_delta";
    this.#insert(made);
    return new GrowingText(plain);
  }

  /** Shows what was added, as a MarkdownView does. */
  render(budget) {
    for (const part of this.#dirty) {
      if (part === this || !part.render || part.render(budget)) {
        this.#dirty.delete(part);
      }
    }
    this.#end.textContent = [this.#stopped || "…", ...this.#measures(), this.#usage].filter(Boolean).join(" · ");
    return this.#dirty.size === 0;
  }

  #measures() {
    const seconds = (this.#first - this.#begun) / 1000;
    const rate = ((this.#deltas - this.#folded - 1) * 1000) / (this.#last - this.#first);
    return [
      this.#begun !== null &&
        this.#first !== null &&
        `first token ${this.#folded ? "within" : "after"} ${seconds.toFixed(2)} s`,
      this.#deltas > 0 && `${this.#deltas} deltas`,
      this.#last > this.#first && `${rate.toFixed(1)} deltas/s`,
    ];
  }
}

/** Sets an entry of a map that holds the latest few. */
function remember(map, name, value) {
  map.set(name, value);
  if (map.size > PARTS) {
    map.delete(map.keys().next().value);
  }
}

const key = ({ index, choice }) => `${index ?? ""}/${choice ?? ""}`;

const about = ({ message_id: id, model, provider }) => [
  element("bdi", {}, [model, provider].filter(Boolean).join(" · ").slice(0, 200)),
  " ",
  element("bdi", {}, id.slice(0, 200)),
];

const usage = (data) =>
  [
    `${data.prompt_tokens} + ${data.completion_tokens} = ${data.total_tokens} tokens`,
    data.cached_tokens && `${data.cached_tokens} cached`,
    data.reasoning_tokens && `${data.reasoning_tokens} of reasoning`,
  ]
    .filter(Boolean)
    .join(", ");
