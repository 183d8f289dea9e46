/** A WebSocket whose server is the test. */

export class FakeSocket {
  static opened: FakeSocket[] = [];
  static #waiting: (() => void)[] = [];

  readonly url: string;
  readonly offers: readonly string[];
  readonly protocol = "deltawire.v1.json";
  readonly sent: unknown[] = [];
  isClosed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onerror: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(url: string, offers: readonly string[]) {
    this.url = url;
    this.offers = offers;
    FakeSocket.opened.push(this);
    FakeSocket.#waiting.splice(0).forEach((go) => go());
  }

  /** Puts it in the place of the real one. */
  static install(): void {
    FakeSocket.opened = [];
    globalThis.WebSocket = FakeSocket as unknown as typeof WebSocket;
  }

  /** The so-many-th socket that the client makes, once it has; opened. */
  static async nth(number: number): Promise<FakeSocket> {
    while (FakeSocket.opened.length < number) {
      await new Promise<void>((resolve) => FakeSocket.#waiting.push(resolve));
    }
    const socket = FakeSocket.opened[number - 1] as FakeSocket;
    await turn();
    socket.onopen?.();
    await turn();
    return socket;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(): void {
    this.isClosed = true;
  }

  /** The server sends messages. */
  say(...messages: object[]): void {
    for (const message of messages) {
      this.onmessage?.({ data: JSON.stringify(message) });
    }
  }

  /** The server ends it. */
  end(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}

/** Lets everything run that is ready to; works with mocked timers. */
export async function turn(): Promise<void> {
  for (let count = 0; count < 20; count += 1) {
    await Promise.resolve();
  }
}

export const subscribed = (after = 0, epoch = "e1"): object => ({
  type: "subscribed",
  stream: "demo",
  epoch,
  floor: 1,
  head: 9,
  after,
  policy: "coalesce",
  buffer: 100,
  recovered: after > 0,
  closed: false,
});

export const text = (seq: number, piece: string): object => ({
  type: "text_delta",
  seq,
  timestamp: "2026-11-22T11:00:00Z",
  data: { text: piece },
});

export const end = (seq: number): object => ({ type: "stream_end", seq, reason: "closed" });
