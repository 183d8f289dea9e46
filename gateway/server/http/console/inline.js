/** Emphasis, code and links inside a block of Markdown, as nodes. A block is short (see markdown.js). */

import { element, visible } from "./dom.js";

/** Emphasis inside emphasis, at most. */
const DEPTH = 4;

const SPECIAL = /[\\`*_[]|https?:\/\//g;
const ESCAPED = /[!-/:-@[-`{-~]/;
const LINK = /\[([^\]\n]{1,500})\]\((https?:\/\/[^\s)]{1,2000})(?:\s[^)]*)?\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`)\]]{1,2000}/y;
const WORD = /[\p{L}\p{N}]/u;

/** The nodes that show a piece of text. */
export function inline(text, depth = 0) {
  const nodes = [];
  let plain = "";
  for (let at = 0; at < text.length; ) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    const found = span(text, next, depth) ?? { text: text[next] ?? "", end: next + 1 };
    plain += text.slice(at, next) + (found.text ?? "");
    if (found.node) {
      nodes.push(visible(plain), found.node);
      plain = "";
    }
    at = found.end;
  }
  return [...nodes, visible(plain)];
}

/** What begins at a special character: a node or a text, and where it ends. */
function span(text, at, depth) {
  switch (text[at]) {
    case "\\":
      return ESCAPED.test(text[at + 1] ?? "") ? { text: text[at + 1], end: at + 2 } : null;
    case "`":
      return code(text, at);
    case "[":
      LINK.lastIndex = at;
      return link(LINK.exec(text), at);
    case "h":
      ADDRESS.lastIndex = at;
      return address(ADDRESS.exec(text), at);
    case "*":
    case "_":
      return depth < DEPTH ? emphasis(text, at, depth) : null;
    default:
      return null;
  }
}

function code(text, at) {
  const [marks] = /^`+/.exec(text.slice(at));
  const after = at + marks.length;
  const close = text.indexOf(marks, after);
  return close < 0
    ? { text: marks, end: after }
    : { node: element("code", {}, text.slice(after, close)), end: close + marks.length };
}

function emphasis(text, at, depth) {
  const mark = text[at + 1] === text[at] ? text[at].repeat(2) : text[at];
  const from = at + mark.length;
  const close = text.indexOf(mark, from + 1);
  const isInWord = mark[0] === "_" && (WORD.test(text[at - 1] ?? "") || WORD.test(text[close + mark.length] ?? ""));
  if (close < 0 || isInWord || /\s/.test(text[from]) || /\s/.test(text[close - 1])) {
    return { text: mark, end: from };
  }
  const node = element(mark.length === 2 ? "strong" : "em");
  node.append(...inline(text.slice(from, close), depth + 1));
  return { node, end: close + mark.length };
}

function link(match, at) {
  const target = match && parse(match[2]);
  if (!target) {
    return null;
  }
  const node = element("span", {}, anchor(target, match[1]), " ", element("span", { class: "address" }, `(${target})`));
  return { node, end: at + match[0].length };
}

function address(match, at) {
  const target = match && parse(match[0]);
  return target ? { node: anchor(target, match[0]), end: at + match[0].length } : null;
}

const anchor = (target, text) =>
  element("a", { href: target, rel: "noopener noreferrer nofollow", target: "_blank" }, text);

/** The whole address as a browser writes it, hosts in ASCII; null if it is none of a web page. */
function parse(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && /^https?:$/.test(url.protocol) ? url.href : null;
}
