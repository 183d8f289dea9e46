/** What a connection is to the rest, and a WebSocket as one. */

import { DeltawireError, type End } from "./errors.ts";
import type { Transport } from "./request.ts";

/** Seconds for the handshake; the same limit as in the gateway. */
const OPEN_TIMEOUT = 10;

const SUBPROTOCOL = "deltawire.v1.json";

/** What a connection tells its reader. */
export interface Listener {
  /** A message came. */
  message(payload: string): void;
  /** The peer gave a sign of life that is no message. */
  alive(): void;
  /** It is over; nothing comes after this, and it comes once. */
  end(end: End): void;
}

/** An open connection; `listener` hears what comes until its end. */
export interface Connection {
  readonly transport: Transport;
  /** Sends a message to the gateway; false where the connection can't. */
  send(message: object): boolean;
  /** Where the connection can't send: delivers a signal by itself, and returns to how many producers. */
  post?(signal: object): Promise<number>;
  /** Ends the connection, without telling the listener. */
  close(): void;
}

/** No connection came about, and nothing says why. */
export class NotOpened extends Error {}

/**
 * Opens a WebSocket.
 *
 * @throws NotOpened it can't be opened; browsers don't tell why.
 * @throws DeltawireError `protocol_fault`: the server speaks another protocol.
 */
export function openWebSocket(
  url: string,
  token: string | undefined,
  listener: Listener,
  signal: AbortSignal,
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const offers = token === undefined ? [SUBPROTOCOL] : [SUBPROTOCOL, `deltawire.bearer.${token}`];
    const socket = new WebSocket(url, offers);
    let isOpen = false;
    const leave = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => undefined; // of a socket that is closed before it has opened
      socket.close();
    };
    const fail = (error: unknown): void => {
      leave();
      reject(error);
    };
    const abort = (): void => fail(signal.reason);
    const timer = setTimeout(() => fail(new NotOpened("the handshake took too long")), OPEN_TIMEOUT * 1000);
    signal.addEventListener("abort", abort);
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) {
        fail(new DeltawireError("protocol_fault", `the server does not speak ${SUBPROTOCOL}`));
        return;
      }
      isOpen = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      const send = (message: object): boolean => {
        socket.send(JSON.stringify(message));
        return true;
      };
      resolve({ transport: "websocket", send, close: leave });
    };
    socket.onmessage = ({ data }) => listener.message(typeof data === "string" ? data : "");
    socket.onerror = () => {
      if (!isOpen) {
        fail(new NotOpened("the WebSocket could not be opened")); // some runtimes don't let `close` follow
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (isOpen) {
        leave();
        listener.end({ code: code || 1006, reason }); // Deno's is 0 where no close frame came
      } else {
        fail(new NotOpened("the WebSocket could not be opened"));
      }
    };
  });
}
