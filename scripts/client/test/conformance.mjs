// Runs conformance cases (protocol/conformance) with the client that the gateway serves; prints what came of each.
//     node conformance.mjs < cases.json     (an array of cases, each with the `url` of its gateway)
import { text } from "node:stream/consumers";
import { DeltawireError, fold, subscribe } from "../../../gateway/server/http/deltawire.js";

async function run({ url, options: { retry_for: retryFor, tokens, ...options } = {}, signals: wanted = [] }) {
  const events = subscribe(url, "demo", {
    heartbeat: 0,
    backoff: { initial: 0, longest: 0 },
    ...options,
    ...(options.urgent && { onUrgent: ({ type, seq }) => urgent.push(`${type} ${seq}`) }),
    ...(retryFor !== undefined && { retryFor }),
    ...(tokens && { token: async () => tokens.shift() }),
  });
  const delivers = [];
  const signals = [];
  const urgent = [];
  let transcript = [];
  let error = null;
  try {
    for await (const item of events) {
      const numbers = item.first === undefined ? item.seq : `${item.first}-${item.seq}`;
      delivers.push([item.type, numbers, ...(item.type === "gap" ? [item.reason] : [])].join(" "));
      transcript = fold(transcript, item);
      for (const { after, name, data } of wanted) {
        if (after === delivers.at(-1)) {
          signals.push(await events.signal(name, { data }).catch(({ code }) => code));
        }
      }
    }
  } catch (failure) {
    error = kindOf(failure);
  }
  const texts = transcript.map((message) => message.text).join("");
  return { delivers, text: texts, position: events.position, verified: events.verified, error, signals, urgent };
}

function kindOf(failure) {
  if (!(failure instanceof DeltawireError)) {
    throw failure;
  }
  const code = failure.closeCode ?? failure.status;
  return code === undefined ? { kind: failure.code } : { kind: "refused", code };
}

console.log(JSON.stringify(await Promise.all(JSON.parse(await text(process.stdin)).map(run))));
