/** The console: puts its parts together. The stream that is open stands in the address, behind `#`. */

import { AnswerView } from "./answer.js";
import { $, sleep } from "./dom.js";
import { listStreams, setToken, token } from "./gateway.js";
import { showMetrics } from "./metrics.js";
import { linesOfText, publish } from "./publish.js";
import { StreamList } from "./streams.js";

/** Milliseconds between two looks at the gateway, or ten times as long as one takes. */
const LOOK = 2000;

const list = new StreamList(choose);
const answer = new AnswerView();

function choose(id) {
  if (chosen() === id) {
    open();
  } else {
    location.hash = encodeURIComponent(id);
  }
}

function chosen() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function open() {
  const id = chosen();
  list.mark(id);
  $("send").disabled = !id;
  document.title = id ? `${id} – deltawire` : "deltawire";
  if (!id) {
    answer.close();
    return;
  }
  try {
    answer.open(id);
  } catch (error) {
    $("state").textContent = error.message; // it is no stream id, or no token
  }
}

async function look() {
  if (document.hidden) {
    return;
  }
  await showMetrics();
  try {
    list.show(await listStreams());
  } catch (error) {
    $("count").textContent = error.message;
  }
}

async function keepLooking() {
  for (;;) {
    const begun = performance.now();
    await look();
    await sleep(Math.max(LOOK, 10 * (performance.now() - begun)));
  }
}

async function send() {
  const stream = chosen();
  $("send").disabled = true;
  $("published").textContent = "publishing …";
  try {
    const content = $("content").value;
    const lines = $("kind").value === "text" ? linesOfText(content) : content;
    const seq = await publish(stream, lines, $("ending").checked);
    $("published").textContent = seq ? `published up to ${seq}` : "nothing to publish";
    if (stream === chosen() && !answer.isFollowing) {
      open(); // it did not exist before
    }
  } catch (error) {
    const part = error.seq ? `published up to ${error.seq}, but not all` : "not published";
    $("published").textContent = `${part}: ${error.message}`;
  }
  $("send").disabled = !chosen();
}

function onSubmit(id, act) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
}

onSubmit("access", () => {
  setToken($("token").value.trim());
  void look();
  open();
});
onSubmit("other", () => choose($("other-id").value.trim()));
onSubmit("publish", () => void send());
$("search").addEventListener("input", () => list.search($("search").value));
$("search").addEventListener("keydown", ({ key }) => {
  if (key === "ArrowDown" || key === "Enter") {
    $("streams").focus();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, textarea, select")) {
    event.preventDefault();
    $("search").focus();
  }
});
addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => void look());

$("token").value = token();
open();
void keepLooking();
