/** Making elements: of text nodes alone, so that no text of a stream becomes markup. */

const OVERRIDES = /[\u202a-\u202e\u2066-\u2069]/g;

/** Characters of one text node, at most: a node is laid out as a whole when it grows. */
const NODE = 8 * 1024;

/** Text nodes that are kept of one text. */
const NODES = 64;

export const $ = (id) => document.getElementById(id);

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The text with characters that change the direction of others made visible. */
export const visible = (text) =>
  text.replace(OVERRIDES, (character) => `⟦U+${character.codePointAt(0).toString(16).toUpperCase()}⟧`);

/** Makes an element; an attribute that is `false` or `undefined` is left out, and strings become text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
  return made;
}

/** Shows text that grows, in an element of its own; of a very long one it keeps the end. */
export class GrowingText {
  #element;
  #last = null;

  constructor(element) {
    this.#element = element;
  }

  append(text) {
    for (let rest = visible(text); rest; ) {
      if (this.#last === null || this.#last.length >= NODE) {
        this.#last = document.createTextNode("");
        this.#element.append(this.#last);
        if (this.#element.childNodes.length > NODES) {
          this.#element.firstChild.remove();
        }
      }
      const room = NODE - this.#last.length;
      this.#last.appendData(rest.slice(0, room));
      rest = rest.slice(room);
    }
  }
}

/** What is to be done at the next frame, once however often it is asked for; each second while nobody sees the page. */
export function atFrame(work) {
  let isDue = false;
  const run = () => {
    isDue = false;
    work();
  };
  return () => {
    if (!isDue) {
      isDue = true;
      void (document.hidden ? setTimeout(run, 1000) : requestAnimationFrame(run));
    }
  };
}
