/** The list of streams. Only the rows that can be seen are in the page, however many streams there are. */

import { $, element } from "./dom.js";

/** Height of a row in pixels, as in console.css. */
const ROW = 44;

/** Rows beyond what can be seen, on either side. */
const SPARE = 5;

export class StreamList {
  #box = $("streams");
  #choose;
  #all = [];
  #shown = [];
  #wanted = "";
  #chosen = "";
  #active = 0; // the row that the keyboard is at

  /** @param choose called with the id of a stream that was chosen. */
  constructor(choose) {
    const box = this.#box;
    this.#choose = choose;
    box.addEventListener("scroll", () => this.#draw());
    box.addEventListener("keydown", (event) => this.#press(event));
    box.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) {
        this.#active = Number(row.dataset.at);
        this.#choose(this.#shown[this.#active].id);
      }
    });
    new ResizeObserver(() => this.#draw()).observe(box);
  }

  /** @param streams the info of all streams, ordered by id. */
  show(streams) {
    this.#all = streams;
    this.#filter();
  }

  search(text) {
    this.#wanted = text.trim().toLowerCase();
    this.#active = 0;
    this.#box.scrollTop = 0;
    this.#filter();
  }

  /** Marks the stream that is open. */
  mark(id) {
    this.#chosen = id;
    this.#draw();
  }

  #filter() {
    const active = this.#shown[this.#active]?.id;
    const { length } = this.#all;
    this.#shown = this.#wanted ? this.#all.filter(({ id }) => id.toLowerCase().includes(this.#wanted)) : this.#all;
    const again = this.#shown.findIndex(({ id }) => id === active);
    this.#active = Math.max(0, again >= 0 ? again : Math.min(this.#active, this.#shown.length - 1));
    const part = this.#wanted ? `${this.#shown.length} of ` : "";
    $("count").textContent = `${part}${length} ${length === 1 ? "stream" : "streams"}`;
    this.#draw();
  }

  #draw() {
    const first = Math.max(0, Math.floor(this.#box.scrollTop / ROW) - SPARE);
    const last = Math.min(this.#shown.length, Math.ceil((this.#box.scrollTop + this.#box.clientHeight) / ROW) + SPARE);
    const rows = this.#shown.slice(first, last).map((stream, number) => this.#row(stream, first + number));
    const space = element("div", { role: "presentation" });
    space.style.height = `${this.#shown.length * ROW}px`;
    this.#box.replaceChildren(space, ...rows);
    this.#box.setAttribute("aria-activedescendant", `stream-${this.#active}`);
  }

  #row({ id, head, closed, producers, consumers }, at) {
    const row = element(
      "div",
      {
        id: `stream-${at}`,
        class: at === this.#active ? "row active" : "row",
        role: "option",
        title: id,
        "data-at": at,
        "aria-selected": String(id === this.#chosen),
        "aria-setsize": this.#shown.length,
        "aria-posinset": at + 1,
      },
      element("span", {}, id),
      element("span", {}, `${closed ? "ended" : "open"} · ${head} events · ${producers} producing · ${consumers} reading`),
    );
    row.style.top = `${at * ROW}px`;
    return row;
  }

  #press(event) {
    const page = Math.max(1, Math.floor(this.#box.clientHeight / ROW) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      event.preventDefault();
      this.#active = Math.max(0, Math.min(this.#shown.length - 1, this.#active + moves[event.key]));
      const top = this.#active * ROW;
      const { scrollTop, clientHeight } = this.#box;
      this.#box.scrollTop = Math.min(top, Math.max(scrollTop, top + ROW - clientHeight));
      this.#draw();
    } else if (event.key === "Enter" && this.#shown.length > 0) {
      this.#choose(this.#shown[this.#active].id);
    }
  }
}
