/** What came and was not read yet. */

export class Queue<Entry> {
  #entries: Entry[] = [];
  #next = 0; // index of the first one not taken: taking from the front of an array costs its length
  #waiting: (() => void)[] = [];
  #isOver = false;

  get length(): number {
    return this.#entries.length - this.#next;
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
    this.#wake();
  }

  /** Nothing more will be pushed. */
  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  /** Discards what is in it, and ends it. */
  discard(): void {
    this.#entries = [];
    this.#next = 0;
    this.end();
  }

  /** The next entry, once there is one; undefined once all have been taken and nothing more will come. */
  async take(): Promise<Entry | undefined> {
    while (this.length === 0 && !this.#isOver) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    const entry = this.#entries[this.#next];
    if (entry !== undefined) {
      this.#next += 1;
      if (this.#next === this.#entries.length) {
        this.#entries = [];
        this.#next = 0;
      }
    }
    return entry;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) {
      resolve();
    }
  }
}
