/** Checks by the digest in `message_stop` whether the text of a message is complete (SPEC §4.4). */

import type { Digest, EventType, Message } from "./messages.ts";
import type { SubscribeOptions } from "./request.ts";

const NEEDED: readonly EventType[] = ["message_start", "text_delta", "message_stop"];

/** What a `message_stop` says about the text that came before it. */
export interface Claim {
  /** Null if the digest is of another message than the one that came. */
  readonly text: string | null;
  readonly digest: Digest;
}

/** Tracks the text that one reader received, over all its connections. */
export class Proof {
  readonly #canProve: boolean;
  #completeFrom: number | null = null; // no event from this seq on is missing
  #first = 1; // seq of the latest message_start; 1 before the first one
  readonly #texts = new Map<number | undefined, string>(); // by choice, since then

  /** @param options what the reader asked for. */
  constructor({ types, index, choice, kind }: SubscribeOptions) {
    const hasAllBlocks = index === undefined && choice === undefined && kind === undefined;
    this.#canProve = hasAllBlocks && (types === undefined || NEEDED.every((type) => types.includes(type)));
  }

  /** Processes a message that is new to the reader; returns what is to be verified at the end of a message. */
  take(message: Message): Claim | undefined {
    switch (message.type) {
      case "subscribed":
        this.#completeFrom ??= message.after + 1;
        return undefined;
      case "gap":
        this.#completeFrom = message.seq + 1;
        this.#begin(1);
        return undefined;
      case "message_start":
        this.#begin(message.seq);
        return undefined;
      case "text_delta":
        this.#add(message.data.choice, message.data.text);
        return undefined;
      case "message_stop":
        return this.#claim(message.data.choice, message.data.digest);
      default:
        return undefined;
    }
  }

  #begin(first: number): void {
    this.#first = first;
    this.#texts.clear();
  }

  #add(choice: number | undefined, text: string): void {
    if (this.#canProve) {
      this.#texts.set(choice, (this.#texts.get(choice) ?? "") + text);
    }
  }

  #claim(choice: number | undefined, digest: Digest | undefined): Claim | undefined {
    const isKnown = this.#canProve && this.#completeFrom !== null;
    if (digest === undefined || !isKnown || digest.first < (this.#completeFrom as number)) {
      return undefined;
    }
    return { text: digest.first === this.#first ? (this.#texts.get(choice) ?? "") : null, digest };
  }
}

/** Whether hashes can be computed here: browsers do so on https and on localhost only. */
export const canHash = (): boolean => globalThis.crypto?.subtle !== undefined;

/** Whether a text is what its digest says. Without hashes only the length is compared. */
export async function verify({ text, digest }: Claim): Promise<boolean> {
  if (text === null || codePoints(text) !== digest.characters) {
    return false;
  }
  if (!canHash()) {
    return true;
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") === digest.sha256;
}

/** The number of Unicode code points: UTF-16 units, less one for each pair. */
function codePoints(text: string): number {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}
