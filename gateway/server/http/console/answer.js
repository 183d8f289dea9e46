/** The live view of one stream. */

import { subscribe } from "/client/deltawire.js";
import { $, atFrame, element, sleep } from "./dom.js";
import { streamInfo, token } from "./gateway.js";
import { MessageView } from "./message.js";

/** Milliseconds between writes of the gateway, which folds the deltas in between. */
const INTERVAL = 50;

/** Characters read in one frame, at most; the rest waits for the next. */
const BUDGET = 64 * 1024;

/** Messages that are kept in the page. */
const MESSAGES = 20;

/** Milliseconds between questions for a stream's numbers. */
const ASK = 1000;

export class AnswerView {
  /** Whether a stream is open and has not ended. */
  isFollowing = false;

  #subscription = null;
  #messages = [];
  #behind = []; // messages of which not everything is shown
  #isPinned = true; // the newest text stays in view
  #draw = atFrame(() => this.#render());

  constructor() {
    const answer = $("answer");
    answer.addEventListener("scroll", () => {
      this.#isPinned = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 40;
    });
    $("cancel").addEventListener("click", () => this.#cancel());
  }

  /** Follows a stream, from the oldest event that is held. */
  open(id) {
    this.close();
    const subscription = subscribe("/", id, {
      create: false,
      interval: INTERVAL,
      retryFor: null,
      ...(token() && { token: async () => token() }),
      onStatus: (status) => this.#subscription === subscription && this.#tell(status),
    });
    this.#subscription = subscription;
    this.isFollowing = true;
    $("title").textContent = id;
    $("cancel").disabled = false;
    void this.#follow(subscription);
    void this.#ask(subscription, id);
  }

  close() {
    this.#subscription?.close();
    this.#subscription = null;
    this.isFollowing = false;
    this.#clear();
    $("facts").replaceChildren();
    $("state").textContent = "";
    $("cancel").disabled = true;
  }

  #clear() {
    this.#messages = [];
    this.#behind = [];
    this.#isPinned = true;
    $("answer").replaceChildren();
  }

  async #follow(subscription) {
    try {
      for await (const item of subscription) {
        if (subscription !== this.#subscription) {
          return;
        }
        this.#add(item);
      }
      this.#finish(subscription, `ended: ${subscription.ended?.reason ?? "closed"}`);
    } catch (error) {
      this.#finish(subscription, `failed: ${error.message}`);
    }
  }

  #finish(subscription, text) {
    if (subscription === this.#subscription) {
      this.#say(text);
      $("cancel").disabled = true;
      this.isFollowing = false;
    }
  }

  #add(item) {
    if (item.type === "gap" && item.reason === "epoch_changed") {
      this.#clear();
    }
    let message = this.#messages.at(-1);
    if (!message || item.type === "message_start") {
      message = new MessageView();
      this.#messages.push(message);
      $("answer").append(message.element);
      if (this.#messages.length > MESSAGES) {
        this.#messages.shift().element.remove();
      }
    }
    if (item.type === "gap") {
      message.note(`events ${item.first} to ${item.seq} are missing (${item.reason})`);
    } else {
      message.add(item);
    }
    if (!this.#behind.includes(message)) {
      this.#behind.push(message);
    }
    this.#draw();
  }

  #render() {
    const answer = $("answer");
    this.#behind = this.#behind.filter((message) => !message.render(BUDGET));
    if (this.#isPinned) {
      answer.scrollTop = answer.scrollHeight;
    }
    if (this.#behind.length > 0) {
      this.#draw();
    }
  }

  /** Shows a stream's numbers for as long as it is open. */
  async #ask(subscription, id) {
    while (subscription === this.#subscription) {
      const info = document.hidden ? null : await streamInfo(id).catch(() => null);
      if (info && subscription === this.#subscription) {
        const { epoch, seq } = subscription.position ?? {};
        const facts = {
          producers: info.producers,
          audience: info.consumers,
          events: info.head,
          "this reader's lag": epoch === info.epoch ? Math.max(0, info.head - seq) : "–",
          held: `${(info.bytes / 1024).toFixed(0)} KiB from ${info.floor}`,
          verified: `${subscription.verified} messages`,
          over: subscription.transport ?? "–",
        };
        const rows = Object.entries(facts).map(([name, value]) =>
          element("div", {}, element("dt", {}, name), element("dd", {}, String(value))),
        );
        $("facts").replaceChildren(...rows);
      }
      await sleep(ASK);
    }
  }

  #tell(status) {
    if (status.state === "waiting") {
      this.#say(`the connection is lost (${status.reason}): next attempt in ${status.seconds.toFixed(1)} s`);
    } else if (status.state !== "ended" && status.state !== "failed") {
      this.#say(status.state);
    }
  }

  #say(text) {
    $("state").textContent = text;
  }

  async #cancel() {
    try {
      const asked = await this.#subscription.cancel();
      this.#say(`asked ${asked} ${asked === 1 ? "producer" : "producers"} to stop`);
    } catch (error) {
      this.#say(`not cancelled: ${error.message}`);
    }
  }
}
