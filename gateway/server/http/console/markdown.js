/**
 * Shows Markdown that grows: headings, paragraphs, lists, quotes, fences, tables as text.
 *
 * Text is read once, line by line. Only the block that is still open is made anew when it has grown, and a block is at
 * most `BLOCK` characters long: what follows is a block of its own. So a delta costs the same wherever it stands.
 */

import { element, GrowingText } from "./dom.js";
import { inline } from "./inline.js";

/** Characters of one block. */
const BLOCK = 4 * 1024;

/** Blocks and characters that are kept of a text; the oldest go first. */
const MAX_BLOCKS = 1000;
const MAX_CHARACTERS = 1024 * 1024;

/** A line that may still become a fence, a heading, an item, a rule. */
const UNDECIDED = [
  /^\s{0,80}(?:#{0,6}|[-*_]{0,80}|[+>]|\d{1,9}[.)]?)\s{0,80}$/,
  /^\s{0,80}(?:`{1,2}|~{1,2})$/,
  /^\s{0,3}(?:`{3,}|~{3,})[^`]{0,1000}$/,
];

const FENCE = /^\s{0,3}(`{3,}|~{3,})[^`]{0,1000}$/;
const HEADING = /^\s{0,3}(#{1,6})\s+/;
const RULE = /^\s{0,3}(?:-{3,80}|\*{3,80}|_{3,80})\s{0,80}$/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+/;
const QUOTE = /^\s{0,3}>\s?/;
const TABLE = /^\s{0,3}\|/;

export class MarkdownView {
  #element;
  #waiting = []; // text that is not read yet
  #line = ""; // the current line, while it is not known what it is
  #isBegun = false; // the current line belongs to the open block
  #open = null; // the open block: kind, element, source
  #blocks = []; // [element, characters]
  #characters = 0;
  #note = null; // says that the beginning is not shown any more

  /** @param element the text's own; it is filled with blocks. */
  constructor(element) {
    this.#element = element;
  }

  append(text) {
    this.#waiting.push(text);
  }

  /** Shows what was appended, some characters at most; returns whether nothing is left. */
  render(budget) {
    while (this.#waiting.length > 0 && budget > 0) {
      const text = this.#waiting.shift();
      if (text.length > budget) {
        this.#waiting.unshift(text.slice(budget));
      }
      this.#read(text.slice(0, budget));
      budget -= text.length;
    }
    if (!this.#isBegun && this.#line && !this.#isUndecided()) {
      this.#begin();
    }
    this.#show();
    return this.#waiting.length === 0;
  }

  /** Shows the last line too, whatever it may have become. */
  finish() {
    this.render(Infinity);
    if (this.#line) {
      this.#begin();
    }
    this.#close();
    this.#isBegun = false;
  }

  #read(text) {
    const lines = text.split("\n");
    for (const [number, piece] of lines.entries()) {
      if (this.#isBegun) {
        this.#grow(piece);
      } else {
        this.#line += piece;
      }
      if (number < lines.length - 1) {
        this.#endLine();
      }
    }
  }

  #endLine() {
    if (!this.#isBegun) {
      this.#begin();
    }
    this.#isBegun = false;
    if (this.#open?.kind === "heading") {
      this.#close();
    } else if (this.#open?.isFenceLine) {
      this.#open.isFenceLine = false;
    } else if (this.#open) {
      this.#grow("\n");
    }
  }

  #isUndecided() {
    const { kind, fence } = this.#open ?? {};
    return kind === "code"
      ? fence.startsWith(this.#line.trim().slice(0, fence.length))
      : UNDECIDED.some((form) => form.test(this.#line));
  }

  /** Gives the current line to a block: to the open one, or to one that begins with it. */
  #begin() {
    const line = this.#line;
    this.#line = "";
    this.#isBegun = true;
    if (this.#open?.kind === "code") {
      const text = line.trim();
      if (text.startsWith(this.#open.fence) && text === this.#open.fence[0].repeat(text.length)) {
        this.#close();
      } else {
        this.#grow(line);
      }
      return;
    }
    const [kind, tag, attributes, text, fence] = classify(line);
    if (kind === "blank" || kind === "rule") {
      this.#close();
      if (kind === "rule") {
        this.#start(kind, "hr", {});
        this.#close();
      }
      return;
    }
    const goesOn = kind === this.#open?.kind && kind !== "item" && kind !== "heading" && kind !== "code";
    const isLazy = kind === "paragraph" && (this.#open?.kind === "item" || this.#open?.kind === "quote");
    if (!goesOn && !isLazy) {
      this.#close();
      this.#start(kind, tag, attributes);
      this.#open.fence = fence;
      this.#open.isFenceLine = kind === "code";
    }
    this.#grow(isLazy ? text.trimStart() : text);
  }

  #start(kind, tag, attributes) {
    const made = element(tag, { dir: "auto", ...attributes });
    const inside = { item: "li", code: "code", table: "code" }[kind];
    const inner = inside ? made.appendChild(element(inside)) : made;
    const growing = inside === "code" ? new GrowingText(inner) : null;
    this.#open = { kind, tag, attributes, inner, source: "", growing };
    this.#element.append(made);
    this.#blocks.push([made, 0]);
  }

  #grow(text) {
    if (!this.#open) {
      this.#start("paragraph", "p", {}); // what follows a rule on its line
    }
    this.#open.source += text;
    this.#blocks.at(-1)[1] += text.length;
    this.#characters += text.length;
    while (!this.#open.growing && this.#open.source.length > BLOCK) {
      this.#cut();
    }
  }

  /** Ends a block that is too long at a space, and goes on with another of its kind. */
  #cut() {
    const { kind, tag, attributes, source } = this.#open;
    const space = Math.max(source.lastIndexOf(" ", BLOCK), source.lastIndexOf("\n", BLOCK));
    const end = space > BLOCK / 2 ? space + 1 : BLOCK;
    this.#open.source = source.slice(0, end);
    this.#close();
    const isItem = kind === "item";
    const more = { ...attributes, class: `${attributes.class || ""} goes-on`.trim() };
    this.#start(isItem ? "paragraph" : kind, isItem ? "p" : tag, more);
    this.#open.source = source.slice(end);
  }

  #show() {
    if (this.#open?.growing) {
      this.#open.growing.append(this.#open.source);
      this.#open.source = "";
    } else if (this.#open) {
      this.#open.inner.replaceChildren(...inline(this.#open.source));
    }
    while (this.#blocks.length > MAX_BLOCKS || (this.#characters > MAX_CHARACTERS && this.#blocks.length > 1)) {
      const [oldest, characters] = this.#blocks.shift();
      oldest.remove();
      this.#characters -= characters;
      if (!this.#note) {
        this.#note = element("p", { class: "note" }, "The beginning is not shown any more.");
        this.#element.prepend(this.#note);
      }
    }
  }

  #close() {
    if (this.#open) {
      this.#open.source = this.#open.growing ? this.#open.source : this.#open.source.trimEnd();
      this.#show();
      this.#open = null;
    }
  }
}

/** What a line begins, as kind, tag and attributes of a block, the text in it, and the fence that will end it. */
function classify(line) {
  let match;
  if (!line.trim()) {
    return ["blank"];
  }
  if ((match = FENCE.exec(line))) {
    return ["code", "pre", {}, "", match[1]];
  }
  if ((match = HEADING.exec(line))) {
    return ["heading", `h${Math.min(5, match[1].length + 2)}`, {}, line.slice(match[0].length)];
  }
  if (RULE.test(line)) {
    return ["rule"];
  }
  if ((match = ITEM.exec(line))) {
    const depth = Math.min(3, Math.floor(match[1].length / 2));
    const attributes = { class: depth > 0 && `depth-${depth}`, start: match[2] };
    return ["item", match[2] ? "ol" : "ul", attributes, line.slice(match[0].length)];
  }
  if ((match = QUOTE.exec(line))) {
    return ["quote", "blockquote", {}, line.slice(match[0].length)];
  }
  return TABLE.test(line) ? ["table", "pre", {}, line] : ["paragraph", "p", {}, line];
}
