/**
 * The position of a reader, and which messages are new to it.
 *
 * Events and gaps advance the position, `subscribed` does not: after a connection that is lost before its first event,
 * the next one resumes at the same position. There are two exceptions. The very first `subscribed` sets the position of
 * a reader that has none; otherwise a lost connection would move `from: "now"`. And `caught_up` and `stream_end`
 * advance the position past events that the gateway filtered out.
 */

import { DeltawireError } from "./errors.ts";
import { isEvent, type Message, type Position } from "./messages.ts";

export class Tracker {
  position: Position | null;
  readonly #isFiltered: boolean;
  #epoch = ""; // of the current connection
  #mayLeaveHole = false; // what came last was of an unknown type, and may have been an event

  /**
   * @param position the last known seq and its epoch; null starts where the gateway says.
   * @param isFiltered whether the reader asked for some events only, so that numbers may be missing.
   */
  constructor(position: Position | null, isFiltered: boolean) {
    this.position = position;
    this.#isFiltered = isFiltered;
  }

  /**
   * Whether a message is new to the reader; advances the position. Null is a message of an unknown type.
   *
   * @throws DeltawireError `protocol_fault`: an event is missing without a gap, or a frame repeats some of its events.
   */
  accept(message: Message | null): boolean {
    if (message === null) {
      this.#mayLeaveHole = true;
      return false;
    }
    if (isEvent(message)) {
      return this.#move(message.first ?? message.seq, message.seq);
    }
    switch (message.type) {
      case "subscribed":
        this.#epoch = message.epoch;
        this.#mayLeaveHole = false;
        if (this.position === null || this.position.epoch === "") {
          this.position = { epoch: message.epoch, seq: message.after };
        }
        return true;
      case "gap":
        if (message.reason === "epoch_changed" && this.#isNewEpoch) {
          this.position = { epoch: this.#epoch, seq: message.seq };
          return true;
        }
        return this.#move(message.first, message.seq);
      case "caught_up":
      case "stream_end":
        if (this.#isFiltered && this.position !== null && !this.#isNewEpoch) {
          this.position = { epoch: this.#epoch, seq: Math.max(this.position.seq, message.seq) };
        }
        return true;
      default:
        return true;
    }
  }

  /** Whether the position belongs to another epoch than the connection, and the gap has not come yet. */
  get #isNewEpoch(): boolean {
    return this.position !== null && this.position.epoch !== this.#epoch;
  }

  #move(first: number, seq: number): boolean {
    if (this.position === null || this.#isNewEpoch) {
      throw fault("an event came before the gateway said where the stream stands");
    }
    const last = this.position.seq;
    if (seq <= last) {
      return false;
    }
    if (first <= last) {
      throw fault(`events ${first} to ${seq} came as one frame after ${last} was delivered already`);
    }
    if (first > last + 1 && !this.#isFiltered && !this.#mayLeaveHole) {
      throw fault(`events ${last + 1} to ${first - 1} are missing and no gap names them`);
    }
    this.#mayLeaveHole = false;
    this.position = { epoch: this.#epoch, seq };
    return true;
  }
}

const fault = (message: string): DeltawireError => new DeltawireError("protocol_fault", message);
