/** The console: puts its parts together. The stream that is open stands in the address, behind `#`. */

import { AnswerView } from "./answer.js";
import { listStreams, setToken, token } from "./gateway.js";
import { Glance } from "./metrics.js";
import { eventsOfLines, eventsOfText, publish } from "./publish.js";
import { StreamList } from "./streams.js";

/** Milliseconds between two looks at the gateway; the list also waits for ten times as long as it took. */
const LOOK = 2000;

const $ = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const list = new StreamList($("streams"), $("count"), choose);
const answer = new AnswerView({
  title: $("title"),
  state: $("state"),
  facts: $("facts"),
  answer: $("answer"),
  cancel: $("cancel"),
});
const glance = new Glance($("metrics"));

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
  await glance.show();
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
    const events = $("kind").value === "text" ? eventsOfText($("content").value) : eventsOfLines($("content").value);
    const seq = await publish(stream, events, $("ending").checked);
    $("published").textContent = `${events.length} events published, up to ${seq}`;
    if (stream === chosen() && !answer.isFollowing) {
      open(); // it did not exist before
    }
  } catch (error) {
    $("published").textContent = `not published: ${error.message}`;
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
