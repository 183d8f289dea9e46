// Follows a stream of a deltawire gateway and writes its text to standard output, each piece once, through lost
// connections and restarts. For Node.js 22 and newer, Deno and Bun.
//
//     node follow.mjs http://127.0.0.1:8765 demo
import { subscribe } from "../../../gateway/server/http/deltawire.js"; // with the package from npm: "deltawire"

const [url, stream, transport = "auto"] = process.argv.slice(2);
const events = subscribe(url, stream, { transport });
for await (const item of events) {
  if (item.type === "text_delta") {
    process.stdout.write(item.data.text);
  } else if (item.type === "gap") {
    console.error(`events ${item.first} to ${item.seq} are missing: ${item.reason}`);
  }
}
console.error(`${events.verified} messages are proven to be complete`);
