/** A React hook that follows a stream. */

import { useCallback, useEffect, useRef, useState } from "react";
import {
  fold,
  subscribe,
  type Position,
  type Status,
  type SubscribeOptions,
  type Subscription,
  type Transcript,
} from "./index.ts";

export interface StreamView {
  /** All messages so far. */
  readonly messages: Transcript;
  /** The text of the latest one. */
  readonly text: string;
  readonly status: Status;
  /** Where it stands, to resume from. */
  readonly position: Position | null;
  /** Asks the producers to stop; returns how many were asked. */
  readonly cancel: (messageId?: string) => Promise<number>;
}

interface State {
  readonly messages: Transcript;
  readonly position: Position | null;
}

const NOTHING: State = { messages: [], position: null };

/**
 * Follows a stream while the component is shown. A page that reloads gets the same text again: the gateway replays what
 * it holds, folded. Options are read when the address or the stream changes, and at the beginning.
 *
 * @param stream the stream's id; null follows none.
 */
export function useStream(url: string | URL, stream: string | null, options: SubscribeOptions = {}): StreamView {
  const [state, setState] = useState(NOTHING);
  const [status, setStatus] = useState<Status>({ state: "connecting" });
  const latest = useRef(options);
  latest.current = options;
  const current = useRef<Subscription | null>(null);
  const address = String(url);

  useEffect(() => {
    if (stream === null) {
      return undefined;
    }
    let isShown = true;
    const { onStatus } = latest.current;
    setState(NOTHING);
    const subscription = subscribe(address, stream, {
      ...latest.current,
      onStatus: (now) => {
        if (isShown) {
          setStatus(now);
          onStatus?.(now);
        }
      },
    });
    current.current = subscription;
    const read = async (): Promise<void> => {
      for await (const item of subscription) {
        const { position } = subscription;
        setState(({ messages }) => ({ messages: fold(messages, item), position }));
      }
    };
    read().catch(() => undefined); // the status says it
    return () => {
      isShown = false;
      subscription.close();
    };
  }, [address, stream]);

  const cancel = useCallback(
    (messageId?: string) => current.current?.cancel(messageId) ?? Promise.resolve(0),
    [],
  );
  return { ...state, text: state.messages.at(-1)?.text ?? "", status, cancel };
}
