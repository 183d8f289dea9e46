// deltawire: made from scripts/client by `npm run served`. MIT licence.

// src/errors.ts
var RETRYABLE = /* @__PURE__ */ new Set(["unreachable", "token_unavailable", "not_delivered", "timeout"]);
var DeltawireError = class extends Error {
  name = "DeltawireError";
  code;
  closeCode;
  status;
  problem;
  constructor(code, message, details = {}) {
    super(message, details.cause === void 0 ? void 0 : { cause: details.cause });
    this.code = code;
    this.closeCode = details.closeCode;
    this.status = details.status;
    this.problem = details.problem;
  }
  /** Whether the same call can succeed later. */
  get retryable() {
    return RETRYABLE.has(this.code);
  }
};
var STAYS_OPEN = /* @__PURE__ */ new Set([
  "invalid_event",
  "sequence_gap",
  "stream_full",
  "unknown_message",
  "not_permitted",
  "invalid_token"
]);
var BY_CLOSE_CODE = {
  1009: "message_too_big",
  4500: "fenced",
  4501: "stream_closed",
  4502: "bad_request",
  4503: "forbidden",
  4504: "position_ahead",
  4505: "not_found"
};
var BY_STATUS = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found"
};
var isRetryable = (code) => [1e3, 1001, 1005, 1011, 1012, 1013, 1014].includes(code) || code >= 4e3 && code <= 4499;
function judgeEnd(end, problem) {
  const cause = problem !== void 0 && !STAYS_OPEN.has(problem.code) ? problem : void 0;
  const text = cause?.message || end.reason;
  if (end.code === void 0) {
    return cause === void 0 || cause.retryable ? text : refusedBy(cause, text);
  }
  if (end.code === 1006) {
    return text || "the connection was lost";
  }
  if (isRetryable(end.code)) {
    return text ? `closed with ${end.code}: ${text}` : `closed with ${end.code}`;
  }
  const code = BY_CLOSE_CODE[end.code] ?? "refused";
  return new DeltawireError(code, `refused: ${text || "no reason given"} (close ${end.code})`, {
    closeCode: end.code,
    ...cause && { problem: cause }
  });
}
function refusedBy(problem, text) {
  const known = Object.values(BY_CLOSE_CODE).find((code) => code === problem.code);
  return new DeltawireError(known ?? "refused", `refused: ${text}`, { problem });
}
var RETRIED_STATUS = /* @__PURE__ */ new Set([429, 500, 502, 503, 504]);
function judgeStatus(status, detail) {
  if (RETRIED_STATUS.has(status)) {
    return `HTTP ${status}: ${detail}`;
  }
  return new DeltawireError(BY_STATUS[status] ?? "refused", `refused: ${detail} (HTTP ${status})`, { status });
}

// src/connection.ts
var OPEN_TIMEOUT = 10;
var SUBPROTOCOL = "deltawire.v1.json";
var NotOpened = class extends Error {
};
function openWebSocket(url, token, listener, signal) {
  return new Promise((resolve, reject) => {
    const offers = token === void 0 ? [SUBPROTOCOL] : [SUBPROTOCOL, `deltawire.bearer.${token}`];
    const socket = new WebSocket(url, offers);
    let isOpen = false;
    const leave = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => void 0;
      socket.close();
    };
    const fail = (error) => {
      leave();
      reject(error);
    };
    const abort = () => fail(signal.reason);
    const timer = setTimeout(() => fail(new NotOpened("the handshake took too long")), OPEN_TIMEOUT * 1e3);
    signal.addEventListener("abort", abort);
    socket.onopen = () => {
      if (socket.protocol !== SUBPROTOCOL) {
        fail(new DeltawireError("protocol_fault", `the server does not speak ${SUBPROTOCOL}`));
        return;
      }
      isOpen = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      const send = (message) => {
        socket.send(JSON.stringify(message));
        return true;
      };
      resolve({ transport: "websocket", send, close: leave });
    };
    socket.onmessage = ({ data }) => listener.message(typeof data === "string" ? data : "");
    socket.onerror = () => {
      if (!isOpen) {
        fail(new NotOpened("the WebSocket could not be opened"));
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (isOpen) {
        leave();
        listener.end({ code, reason });
      } else {
        fail(new NotOpened("the WebSocket could not be opened"));
      }
    };
  });
}

// src/retries.ts
var DEFAULT_BACKOFF = { initial: 0.5, longest: 5 };
var MAX_DOUBLINGS = 32;
var Retries = class {
  #backoff;
  #retryFor;
  #since = null;
  #attempts = 0;
  /** @param retryFor the most seconds of a run; null never gives up, 0 never retries. */
  constructor(backoff, retryFor) {
    this.#backoff = backoff;
    this.#retryFor = retryFor;
  }
  /**
   * Seconds to wait after a failure; null to give up. The last wait ends exactly when the run's time ends.
   *
   * @param now seconds on any steady clock.
   * @param chance a random number from 0 to 1.
   * @param told seconds the gateway asked for (`Retry-After`); waited in full, plus up to half of it.
   */
  waitAfterFailure(now, chance, told = 0) {
    this.#since ??= now;
    const { initial, longest } = this.#backoff;
    const delay = Math.min(longest, initial * 2 ** Math.min(this.#attempts, MAX_DOUBLINGS)) * (1 - 0.9 * chance);
    const wanted = Math.max(delay, told * (1 + chance / 2));
    this.#attempts += 1;
    if (this.#retryFor === null) {
      return wanted;
    }
    const left = this.#since + this.#retryFor - now;
    return left > 0 && left >= told ? Math.max(Math.min(wanted, left), told) : null;
  }
  /** Notes that something was delivered: the next failure begins a new run. */
  reset() {
    this.#since = null;
    this.#attempts = 0;
  }
};

// src/sse.ts
var HttpRefusal = class extends Error {
  status;
  /** Seconds it asked to wait (`Retry-After`); 0 if it asked for none. */
  retryAfter;
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
};
async function openEventStream(url, token, listener, signal) {
  const leaving = new AbortController();
  const leave = () => leaving.abort();
  signal.addEventListener("abort", leave, { once: true });
  let response;
  try {
    response = await fetch(url, {
      headers: token === void 0 ? {} : { Authorization: `Bearer ${token}` },
      cache: "no-store",
      signal: leaving.signal
    });
  } catch (cause) {
    signal.throwIfAborted();
    throw new NotOpened("there was no answer", { cause });
  }
  if (response.status === 204) {
    return null;
  }
  if (!response.ok) {
    throw await refusalOf(response);
  }
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream") || response.body === null) {
    leave();
    throw new DeltawireError("protocol_fault", "the server did not answer with server-sent events: it is no gateway");
  }
  void follow(response.body, listener, leaving.signal);
  return { transport: "sse", send: () => false, close: leave };
}
async function follow(body, listener, signal) {
  const parser = new EventParser((data) => {
    if (!signal.aborted) {
      listener.message(data);
    }
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      listener.alive();
      parser.add(decoder.decode(piece.value, { stream: true }));
    }
  } catch {
  }
  if (!signal.aborted) {
    listener.end({ reason: "the connection was lost" });
  }
}
async function refusalOf(response) {
  let detail = response.statusText || "no reason given";
  try {
    const problem = await response.json();
    detail = String(problem.detail || problem.title || detail);
  } catch {
  }
  const told = response.headers.get("Retry-After") ?? "";
  return new HttpRefusal(response.status, detail, /^\d{1,6}$/.test(told) ? Number(told) : 0);
}
var EventParser = class {
  #emit;
  #rest = "";
  // of a line whose end has not come
  #data = [];
  // lines of the event in progress
  #sawReturn = false;
  // the last piece ended in CR: a LF that follows belongs to it
  constructor(emit) {
    this.#emit = emit;
  }
  add(text) {
    const skips = this.#sawReturn && text.startsWith("\n") ? 1 : 0;
    if (text) {
      this.#sawReturn = text.endsWith("\r");
    }
    const lines = (this.#rest + text.slice(skips)).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      this.#addLine(line);
    }
  }
  #addLine(line) {
    if (line.startsWith("data:")) {
      this.#data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    } else if (line === "" && this.#data.length > 0) {
      const data = this.#data.join("\n");
      this.#data = [];
      this.#emit(data);
    }
  }
};

// src/tokens.ts
var LEAD = 60;
var PAUSE = 1;
var VISIBLE = /^[!-~]+$/;
var Tokens = class {
  #provider;
  #last;
  #refused;
  /** @throws TypeError the given text can't be a token. */
  constructor(provider) {
    if (typeof provider === "string" && !VISIBLE.test(provider)) {
      throw new TypeError("the token must be one or more visible ASCII characters");
    }
    this.#provider = provider;
  }
  /**
   * The token for a new connection; undefined if none is used.
   *
   * @throws DeltawireError `token_unavailable`: the function that provides it failed.
   */
  async take() {
    if (typeof this.#provider !== "function") {
      return this.#provider;
    }
    let token;
    try {
      token = await this.#provider();
    } catch (cause) {
      throw new DeltawireError("token_unavailable", "the token function failed", { cause });
    }
    if (typeof token !== "string" || !VISIBLE.test(token)) {
      throw new DeltawireError("token_unavailable", "the token function did not return a token");
    }
    this.#last = token;
    return token;
  }
  /** A fresh token for the current connection; undefined if there is none yet. */
  async renew() {
    const before = this.#last;
    try {
      const token = await this.take();
      return token === before ? void 0 : token;
    } catch {
      return void 0;
    }
  }
  /** Seconds after which the current connection needs a fresh token; undefined means never. */
  due(now = Date.now() / 1e3) {
    const expiry = typeof this.#provider === "function" ? expiryOf(this.#last) : void 0;
    return expiry === void 0 ? void 0 : Math.max(expiry - now - Math.min(LEAD, (expiry - now) / 5), PAUSE);
  }
  /** Notes that the gateway refused the last token; returns whether a function may provide another. */
  noteRefusal() {
    const isNews = typeof this.#provider === "function" && this.#last !== this.#refused;
    this.#refused = this.#last;
    return isNews;
  }
};
function expiryOf(token) {
  try {
    const payload = (token ?? "").split(".")[1] ?? "";
    const claims = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
    return typeof claims.exp === "number" ? claims.exp : void 0;
  } catch {
    return void 0;
  }
}

// src/connector.ts
var PATIENCE = 2;
var RETRY_FOR = 30;
var Connector = class {
  tokens;
  #addresses;
  #options;
  #retries;
  #failure = null;
  // why the last connection ended, or none came about
  #told = 0;
  // seconds the gateway asked to wait
  #wasOpen = false;
  #hadWebSocket = false;
  #isBlocked = false;
  // WebSockets never passed, and server-sent events did
  #detours = 0;
  // times in a row that only server-sent events passed
  #wake = () => void 0;
  constructor(addresses, options) {
    this.tokens = new Tokens(options.token);
    this.#addresses = addresses;
    this.#options = options;
    this.#retries = new Retries(
      options.backoff ?? DEFAULT_BACKOFF,
      options.retryFor === void 0 ? RETRY_FOR : options.retryFor
    );
  }
  /**
   * Opens a connection, with as many attempts and waits as necessary; null if the stream has ended and the reader has
   * everything.
   *
   * @throws DeltawireError there is none to be had.
   */
  async open(position, listener, signal) {
    for (; ; ) {
      await this.#wait(signal);
      this.#options.onStatus?.({ state: "connecting" });
      const token = await this.tokens.take();
      signal.throwIfAborted();
      try {
        const connection = await this.#attempt(position, token, listener, signal);
        this.#wasOpen = true;
        return connection;
      } catch (error) {
        signal.throwIfAborted();
        this.lost(this.#judge(error));
      }
    }
  }
  /** Notes how a connection ended: the next `open` waits first. An error is thrown: waiting would not help. */
  lost(failure) {
    if (failure instanceof DeltawireError) {
      throw failure;
    }
    this.#failure = failure;
  }
  /** Notes that something was delivered: the next failure begins a new run of attempts. */
  progressed() {
    this.#retries.reset();
  }
  /** Ends a wait: the network may be back. */
  wake() {
    this.#wake();
  }
  async #attempt(position, token, listener, signal) {
    const wanted = this.#options.transport ?? "auto";
    const isPossible = typeof WebSocket !== "undefined" && !this.#isBlocked;
    if (wanted === "websocket" || wanted === "auto" && isPossible) {
      try {
        const connection2 = await openWebSocket(this.#addresses.subscribe(position), token, listener, signal);
        this.#hadWebSocket = true;
        this.#detours = 0;
        return connection2;
      } catch (error) {
        if (wanted === "websocket" || !(error instanceof NotOpened)) {
          throw error;
        }
      }
    }
    const connection = await openEventStream(this.#addresses.sse(position), token, listener, signal);
    if (this.#hadWebSocket && connection !== null && this.#detours < PATIENCE) {
      this.#detours += 1;
      connection.close();
      throw new NotOpened("the WebSocket could not be opened");
    }
    this.#isBlocked = !this.#hadWebSocket;
    return connection;
  }
  #judge(error) {
    if (error instanceof NotOpened) {
      const hint = "or it does not allow this page's origin";
      return this.#wasOpen || !("document" in globalThis) ? error.message : `${error.message}, ${hint}`;
    }
    if (!(error instanceof HttpRefusal)) {
      return error instanceof DeltawireError ? error : fault(error);
    }
    this.#told = error.retryAfter;
    const { status, message } = error;
    const isMissing = status === 404 && this.#options.create !== false && this.#options.transport !== "sse";
    if (isMissing) {
      return "the WebSocket could not be opened, and this gateway has no server-sent events";
    }
    if (status === 401 && this.#wasOpen && this.tokens.noteRefusal()) {
      return `HTTP 401: ${message}`;
    }
    return judgeStatus(status, message);
  }
  async #wait(signal) {
    const reason = this.#failure;
    if (reason === null) {
      return;
    }
    const seconds = this.#retries.waitAfterFailure(performance.now() / 1e3, Math.random(), this.#told);
    this.#failure = null;
    if (seconds === null) {
      throw new DeltawireError("unreachable", `no gateway at ${this.#addresses.gateway}: ${reason}`);
    }
    this.#options.onStatus?.({ state: "waiting", reason, seconds });
    const told = this.#told;
    this.#told = 0;
    await new Promise((resolve) => {
      const go = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", go);
        this.#wake = () => void 0;
        resolve();
      };
      const timer = setTimeout(go, seconds * 1e3);
      signal.addEventListener("abort", go);
      if (told === 0) {
        this.#wake = go;
      }
    });
    signal.throwIfAborted();
  }
};
var fault = (cause) => new DeltawireError("protocol_fault", "the server is not a gateway", { cause });

// src/liveness.ts
var ANSWER = 5;
var Liveness = class {
  #limit;
  // milliseconds of silence; 0 for any
  #drop;
  #heard = Date.now();
  // not `performance.now`, which stands still while some devices sleep
  #timer;
  /**
   * @param heartbeat seconds between signs of life that the gateway was asked for; 0 for none.
   * @param drop called when the peer is gone.
   */
  constructor(heartbeat, drop) {
    this.#limit = heartbeat * 2e3;
    this.#drop = drop;
    this.#watch(this.#limit);
  }
  /** Notes a sign of life. */
  heard() {
    this.#heard = Date.now();
  }
  /** Checks at once, because the device may have slept: `ping` asks the gateway for an answer. */
  check(ping) {
    if (this.#limit > 0 && Date.now() - this.#heard >= this.#limit) {
      this.#drop();
    } else if (ping()) {
      const asked = Date.now();
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#heard < asked ? this.#drop() : this.#watch(this.#limit), ANSWER * 1e3);
    }
  }
  stop() {
    clearTimeout(this.#timer);
  }
  #watch(milliseconds) {
    if (this.#limit > 0) {
      this.#timer = setTimeout(() => {
        const left = this.#heard + this.#limit - Date.now();
        if (left > 0) {
          this.#watch(left);
        } else {
          this.#drop();
        }
      }, milliseconds);
    }
  }
};
function onWake(callback) {
  const page = globalThis.document;
  const seen = () => {
    if (page?.visibilityState === "visible") {
      callback();
    }
  };
  page?.addEventListener("visibilitychange", seen);
  globalThis.addEventListener?.("online", callback);
  return () => {
    page?.removeEventListener("visibilitychange", seen);
    globalThis.removeEventListener?.("online", callback);
  };
}

// src/messages.ts
var isString = (value) => typeof value === "string";
var isBoolean = (value) => typeof value === "boolean";
var isCount = (value) => Number.isSafeInteger(value) && value >= 0;
var isSeq = (value) => isCount(value) && value !== 0;
var isPresent = (value) => value !== void 0;
var optional = (check) => (value) => value === void 0 || check(value);
var isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
var wrongField = (value, fields) => Object.keys(fields).find((name) => !fields[name](value[name]));
var has = (fields) => (value) => isObject(value) && wrongField(value, fields) === void 0;
var event = (data) => ({
  first: optional(isSeq),
  seq: isSeq,
  timestamp: isString,
  data: has({ index: optional(isCount), choice: optional(isCount), ...data })
});
var isDigest = has({ first: isSeq, characters: isCount, sha256: isString });
var EVENTS = {
  text_delta: event({ text: isString }),
  thinking: event({ thinking: isString }),
  content_start: event({ index: isCount }),
  content_end: event({ index: isCount }),
  message_start: event({ message_id: isString }),
  message_stop: event({ message_id: isString, stop_reason: isString, digest: optional(isDigest) }),
  usage: event({ prompt_tokens: isCount, completion_tokens: isCount, total_tokens: isCount }),
  error: event({ error: isString }),
  tool_delta: event({ index: isCount, partial_json: isString }),
  extension: event({ provider: isString, name: isString, data: isPresent })
};
var MESSAGES = {
  ...EVENTS,
  gap: { first: isSeq, seq: isCount, reason: isString },
  subscribed: { epoch: isString, after: isCount, recovered: isBoolean, closed: isBoolean },
  caught_up: { seq: isCount },
  stream_end: { seq: isCount, reason: isString },
  problem: { code: isString, message: isString, retryable: isBoolean },
  signal_result: { delivered: isCount, id: optional(isString) },
  token_accepted: {},
  heartbeat: { head: isCount },
  pong: {}
};
var isEvent = (message) => message.type in EVENTS;
function decode(payload) {
  let value;
  try {
    value = JSON.parse(payload);
  } catch {
    throw invalid("it is not JSON");
  }
  if (!isObject(value) || typeof value["type"] !== "string") {
    throw invalid("it is not an object with a type");
  }
  const type = value["type"];
  if (!Object.hasOwn(MESSAGES, type)) {
    return null;
  }
  const wrong = wrongField(value, MESSAGES[type]);
  if (wrong !== void 0) {
    throw invalid(`field ${wrong} of ${type} is missing or wrong`);
  }
  return value;
}
var invalid = (why) => new DeltawireError("protocol_fault", `the gateway sent an invalid message: ${why}`);

// src/proof.ts
var NEEDED = ["message_start", "text_delta", "message_stop"];
var Proof = class {
  #canProve;
  #completeFrom = null;
  // no event from this seq on is missing
  #first = 1;
  // seq of the latest message_start; 1 before the first one
  #texts = /* @__PURE__ */ new Map();
  // by choice, since then
  /** @param types the event types that the reader asked for; undefined means all. */
  constructor(types) {
    this.#canProve = types === void 0 || NEEDED.every((type) => types.includes(type));
  }
  /** Processes a message that is new to the reader; returns what is to be verified at the end of a message. */
  take(message) {
    switch (message.type) {
      case "subscribed":
        this.#completeFrom ??= message.after + 1;
        return void 0;
      case "gap":
        this.#completeFrom = message.seq + 1;
        this.#begin(1);
        return void 0;
      case "message_start":
        this.#begin(message.seq);
        return void 0;
      case "text_delta":
        this.#add(message.data.choice, message.data.text);
        return void 0;
      case "message_stop":
        return this.#claim(message.data.choice, message.data.digest);
      default:
        return void 0;
    }
  }
  #begin(first) {
    this.#first = first;
    this.#texts.clear();
  }
  #add(choice, text) {
    if (this.#canProve) {
      this.#texts.set(choice, (this.#texts.get(choice) ?? "") + text);
    }
  }
  #claim(choice, digest) {
    const isKnown = this.#canProve && this.#completeFrom !== null;
    if (digest === void 0 || !isKnown || digest.first < this.#completeFrom) {
      return void 0;
    }
    return { text: digest.first === this.#first ? this.#texts.get(choice) ?? "" : null, digest };
  }
};
var canHash = () => globalThis.crypto?.subtle !== void 0;
async function verify({ text, digest }) {
  if (text === null || codePoints(text) !== digest.characters) {
    return false;
  }
  if (!canHash()) {
    return true;
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") === digest.sha256;
}
function codePoints(text) {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

// src/queue.ts
var Queue = class {
  #entries = [];
  #next = 0;
  // index of the first one not taken: taking from the front of an array costs its length
  #waiting = [];
  #isOver = false;
  get length() {
    return this.#entries.length - this.#next;
  }
  push(entry) {
    this.#entries.push(entry);
    this.#wake();
  }
  /** Nothing more will be pushed. */
  end() {
    this.#isOver = true;
    this.#wake();
  }
  /** Discards what is in it, and ends it. */
  discard() {
    this.#entries = [];
    this.#next = 0;
    this.end();
  }
  /** The next entry, once there is one; undefined once all have been taken and nothing more will come. */
  async take() {
    while (this.length === 0 && !this.#isOver) {
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
    const entry = this.#entries[this.#next];
    if (entry !== void 0) {
      this.#next += 1;
      if (this.#next === this.#entries.length) {
        this.#entries = [];
        this.#next = 0;
      }
    }
    return entry;
  }
  #wake() {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) {
      resolve();
    }
  }
};

// src/request.ts
var STREAM_ID = /^(?!\.\.?$)[A-Za-z0-9._:@-]{1,128}$/;
var DEFAULT_HEARTBEAT = 15;
function addressesOf(url, stream, options) {
  if (!STREAM_ID.test(stream)) {
    throw new TypeError(`stream id ${JSON.stringify(stream)} is not 1 to 128 characters of A-Z a-z 0-9 . _ : @ -`);
  }
  const base = new URL(url, globalThis.location?.href);
  const isSecure = base.protocol === "https:" || base.protocol === "wss:";
  if (!/^(https?|wss?):$/.test(base.protocol) || base.search || base.hash) {
    throw new TypeError(`address ${JSON.stringify(String(url))} is not of the form https://HOST:PORT`);
  }
  const path = `//${base.host}${base.pathname.replace(/\/+$/, "")}/v1/streams/${encodeURIComponent(stream)}`;
  const query = (position) => {
    const text = parameters(options, position).toString();
    return text && `?${text}`;
  };
  return {
    subscribe: (position) => `${isSecure ? "wss:" : "ws:"}${path}/subscribe${query(position)}`,
    sse: (position) => `${isSecure ? "https:" : "http:"}${path}/sse${query(position)}`,
    gateway: base.origin === "null" ? `${base.protocol}//${base.host}` : base.origin
  };
}
function parameters(options, position) {
  const heartbeat = options.heartbeat ?? DEFAULT_HEARTBEAT;
  const wanted = {
    after: position?.seq,
    epoch: position?.epoch || void 0,
    from: position === null && options.from === "now" && "now",
    policy: options.policy,
    buffer: options.buffer,
    types: options.types?.join(","),
    interval: options.interval || void 0,
    heartbeat: heartbeat || void 0,
    create: options.create === false && "false"
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(wanted)) {
    if (value !== void 0 && value !== false) {
      query.set(name, String(value));
    }
  }
  return query;
}

// src/signals.ts
var Signals = class {
  #pending = /* @__PURE__ */ new Map();
  // in the order in which the gateway answers
  #connection = null;
  #count = 0;
  #over = null;
  /** Sends a signal as soon as there is a connection; returns how many producers got it. */
  send(name, data, timeout) {
    if (this.#over !== null) {
      return Promise.reject(new DeltawireError("not_delivered", this.#over));
    }
    this.#count += 1;
    const id = String(this.#count);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(id, "timeout", "the gateway did not answer the signal in time");
      }, timeout * 1e3);
      const settle = () => {
        clearTimeout(timer);
        this.#pending.delete(id);
      };
      this.#pending.set(id, {
        message: { type: "signal", name, id, ...data !== void 0 && { data } },
        isSent: false,
        resolve: (delivered) => {
          settle();
          resolve(delivered);
        },
        reject: (error) => {
          settle();
          reject(error);
        }
      });
      this.#flush();
    });
  }
  connected(connection) {
    this.#connection = connection;
    this.#flush();
  }
  /** What was sent and not answered may or may not have arrived. */
  disconnected() {
    this.#connection = null;
    for (const [id, { isSent }] of this.#pending) {
      if (isSent) {
        this.#fail(id, "not_delivered", "the connection was lost before the gateway answered the signal");
      }
    }
  }
  answered(id, delivered) {
    this.#pending.get(id ?? "")?.resolve(delivered);
  }
  /** The gateway refused the oldest signal: it answers in order. */
  refused(code, message) {
    for (const [id, { isSent }] of this.#pending) {
      if (isSent) {
        this.#fail(id, code, message);
        return;
      }
    }
  }
  /** Nothing can be sent any more. */
  end() {
    this.#over = "the subscription has ended";
    for (const id of this.#pending.keys()) {
      this.#fail(id, "not_delivered", this.#over);
    }
  }
  #flush() {
    for (const [id, pending] of this.#pending) {
      if (this.#connection !== null && !pending.isSent) {
        pending.isSent = this.#connection.send(pending.message);
        if (!pending.isSent) {
          this.#fail(id, "not_delivered", "signals need a WebSocket, and only server-sent events pass here");
        }
      }
    }
  }
  #fail(id, code, message) {
    this.#pending.get(id)?.reject(new DeltawireError(code, message));
  }
};

// src/tracker.ts
var Tracker = class {
  position;
  #isFiltered;
  #epoch = "";
  // of the current connection
  #mayLeaveHole = false;
  // what came last was of an unknown type, and may have been an event
  /**
   * @param position the last known seq and its epoch; null starts where the gateway says.
   * @param isFiltered whether the reader asked for some types only, so that numbers may be missing.
   */
  constructor(position, isFiltered) {
    this.position = position;
    this.#isFiltered = isFiltered;
  }
  /**
   * Whether a message is new to the reader; advances the position. Null is a message of an unknown type.
   *
   * @throws DeltawireError `protocol_fault`: an event is missing without a gap, or a frame repeats some of its events.
   */
  accept(message) {
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
  get #isNewEpoch() {
    return this.position !== null && this.position.epoch !== this.#epoch;
  }
  #move(first, seq) {
    if (this.position === null || this.#isNewEpoch) {
      throw fault2("an event came before the gateway said where the stream stands");
    }
    const last = this.position.seq;
    if (seq <= last) {
      return false;
    }
    if (first <= last) {
      throw fault2(`events ${first} to ${seq} came as one frame after ${last} was delivered already`);
    }
    if (first > last + 1 && !this.#isFiltered && !this.#mayLeaveHole) {
      throw fault2(`events ${last + 1} to ${first - 1} are missing and no gap names them`);
    }
    this.#mayLeaveHole = false;
    this.position = { epoch: this.#epoch, seq };
    return true;
  }
};
var fault2 = (message) => new DeltawireError("protocol_fault", message);

// src/subscription.ts
var MAX_UNREAD = 8 * 1024 * 1024;
var MESSAGE_COST = 256;
var SIGNAL_TIMEOUT = 10;
var Subscription = class {
  /** Where the reader stands: epoch and last seq of what was yielded. Resume from it with the option `position`. */
  position;
  /** The gateway's answer on the current connection. */
  subscribed = null;
  /** Whether everything up to the time of connecting was yielded, so that the next items are live. */
  caughtUp = false;
  /** How the stream ended, once its end is reached. */
  ended = null;
  /** The number of messages whose text was verified by its hash. Always 0 where `canVerify` is false. */
  verified = 0;
  /** Whether hashes can be computed: browsers do so on https and on localhost only. Elsewhere lengths are compared. */
  canVerify = canHash();
  #options;
  #connector;
  #tracker;
  #proof;
  #signals = new Signals();
  #unread = new Queue();
  #leaving = new AbortController();
  #unreadSize = 0;
  #isFull = false;
  // too much is unread
  #connection = null;
  #liveness = null;
  #problem;
  #isOver = false;
  // the end came, or the reader has left
  #failure = null;
  #turn = Promise.resolve();
  // the latest `next`
  #onRead = () => void 0;
  /** @throws TypeError the address, the stream id or the token is wrong. */
  constructor(url, stream, options = {}) {
    this.#options = options;
    this.position = options.position ?? null;
    this.#connector = new Connector(addressesOf(url, stream, options), options);
    this.#tracker = new Tracker(this.position, options.types !== void 0);
    this.#proof = new Proof(options.types);
    const { signal } = options;
    const abort = () => this.#leave({ error: signal?.reason });
    if (signal?.aborted) {
      abort();
    }
    signal?.addEventListener("abort", abort);
    const stopWaking = onWake(() => this.#wake());
    void this.#run().finally(() => {
      signal?.removeEventListener("abort", abort);
      stopWaking();
    });
  }
  /** What carries the current connection; null while there is none. */
  get transport() {
    return this.#connection?.transport ?? null;
  }
  [Symbol.asyncIterator]() {
    return {
      next: () => {
        const result = this.#turn.then(() => this.#next());
        this.#turn = result.catch(() => void 0);
        return result;
      },
      return: async () => {
        this.close();
        return { done: true, value: void 0 };
      }
    };
  }
  /** Ends the subscription; iterating ends too. */
  close() {
    this.#leave(null);
  }
  /**
   * Sends a signal to the stream's producers, as soon as there is a connection.
   *
   * @param options `data` is any JSON value; `timeout` are the seconds to wait for the gateway's answer, default 10.
   * @returns the number of producers that it was delivered to.
   * @throws DeltawireError `not_permitted`: the token does not allow it. `timeout`, `not_delivered`: it may or may not
   *   have arrived.
   */
  signal(name, options = {}) {
    return this.#signals.send(name, options.data, options.timeout ?? SIGNAL_TIMEOUT);
  }
  /** Asks the producers to stop the answer, or the one with this id; otherwise like `signal`. */
  cancel(messageId) {
    return this.signal("cancel", messageId === void 0 ? {} : { data: { message_id: messageId } });
  }
  // The reader's side
  async #next() {
    for (; ; ) {
      const unread = await this.#unread.take();
      if (unread === void 0) {
        if (this.#failure !== null) {
          throw this.#failure.error;
        }
        return { done: true, value: void 0 };
      }
      this.#unreadSize -= unread.size;
      if (unread.isWhole !== void 0 && !await unread.isWhole) {
        this.#leave({ error: mismatch(this.position?.seq) });
        continue;
      }
      if (this.#unread.length === 0) {
        this.#isFull = false;
        this.#onRead();
      }
      this.position = unread.position;
      const { message } = unread;
      if (isEvent(message) || message.type === "gap") {
        this.verified += unread.isWhole !== void 0 && this.canVerify ? 1 : 0;
        return { done: false, value: message };
      }
      this.#heed(message);
    }
  }
  #heed(message) {
    if (message.type === "subscribed") {
      this.subscribed = message;
      this.caughtUp = false;
    } else if (message.type === "caught_up") {
      this.caughtUp = true;
    } else if (message.type === "stream_end") {
      this.ended = message;
    }
  }
  #leave(failure) {
    this.#isOver = true;
    this.#failure ??= failure;
    this.#unread.discard();
    this.#leaving.abort();
  }
  // The gateway's side
  async #run() {
    try {
      while (!this.#isOver) {
        await this.#room();
        const failure = await this.#converse();
        if (failure !== null && !this.#isOver) {
          this.#connector.lost(failure);
        }
      }
    } catch (error) {
      if (!this.#isOver) {
        this.#failure = { error };
      }
    }
    this.#isOver = true;
    this.#signals.end();
    this.#unread.end();
    this.#options.onStatus?.(
      this.#failure === null ? { state: "ended" } : { state: "failed", error: this.#failure.error }
    );
  }
  /** Reads from one connection until it ends; returns why it ended, or null if nothing is wrong. */
  async #converse() {
    const { signal } = this.#leaving;
    let listener;
    const ending = new Promise((resolve, reject) => {
      listener = {
        message: (payload) => {
          this.#liveness?.heard();
          try {
            if (this.#take(payload)) {
              resolve(null);
            }
          } catch (error) {
            reject(error);
          }
        },
        alive: () => this.#liveness?.heard(),
        end: resolve
      };
      signal.addEventListener("abort", () => resolve(null), { once: true });
    });
    ending.catch(() => void 0);
    this.#problem = void 0;
    const connection = await this.#connector.open(this.#tracker.position, listener, signal);
    if (connection === null) {
      this.#takeEnd();
      return null;
    }
    this.#connection = connection;
    const liveness = new Liveness(
      this.#options.heartbeat ?? DEFAULT_HEARTBEAT,
      () => listener.end({ code: 1006, reason: "the gateway stopped answering" })
    );
    this.#liveness = liveness;
    const stopRenewing = this.#renewTokens(connection);
    this.#signals.connected(connection);
    try {
      const end = await ending;
      return end && judgeEnd(end, this.#problem);
    } finally {
      stopRenewing();
      liveness.stop();
      connection.close();
      this.#connection = this.#liveness = null;
      this.#signals.disconnected();
    }
  }
  /** Takes a message; returns whether to read no further from this connection. */
  #take(payload) {
    if (this.#isOver || this.#isFull) {
      return true;
    }
    const message = decode(payload);
    if (!this.#tracker.accept(message) || message === null) {
      return false;
    }
    const claim = this.#proof.take(message);
    const size = payload.length + MESSAGE_COST;
    this.#unreadSize += size;
    this.#unread.push({ message, position: this.#tracker.position, size, isWhole: claim && verify(claim) });
    this.#isFull = this.#unreadSize > MAX_UNREAD;
    this.#react(message);
    return this.#isOver || this.#isFull;
  }
  #react(message) {
    switch (message.type) {
      case "subscribed":
        this.#options.onStatus?.({ state: "replaying" });
        break;
      case "caught_up":
        this.#connector.progressed();
        this.#options.onStatus?.({ state: "live" });
        break;
      case "signal_result":
        this.#signals.answered(message.id, message.delivered);
        break;
      case "problem":
        this.#problem = message;
        if (message.code === "not_permitted" || message.code === "unknown_message") {
          this.#signals.refused(message.code, message.message);
        }
        break;
      case "stream_end":
        this.#isOver = true;
        break;
      default:
        if (isEvent(message) || message.type === "gap") {
          this.#connector.progressed();
        }
    }
  }
  /** Takes that the stream has ended and nothing is left to read, which server-sent events say with a status. */
  #takeEnd() {
    const position = this.#tracker.position;
    const message = { type: "stream_end", seq: position?.seq ?? 0, reason: "closed" };
    this.#unread.push({ message, position, size: 0, isWhole: void 0 });
    this.#isOver = true;
  }
  /** Waits until everything that came has been read, if it was too much. */
  async #room() {
    if (this.#isFull) {
      await new Promise((resolve) => {
        this.#onRead = resolve;
        this.#leaving.signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }
  #renewTokens(connection) {
    const { tokens } = this.#connector;
    let timer;
    let isOver = connection.transport !== "websocket";
    const plan = () => {
      const due = tokens.due();
      if (due !== void 0 && !isOver) {
        timer = setTimeout(() => void renew(), Math.min(due * 1e3, 2 ** 31 - 1));
      }
    };
    const renew = async () => {
      const token = await tokens.renew();
      if (token !== void 0 && !isOver) {
        connection.send({ type: "token", token });
      }
      plan();
    };
    plan();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }
  #wake() {
    this.#connector.wake();
    const connection = this.#connection;
    this.#liveness?.check(() => connection?.send({ type: "ping" }) ?? false);
  }
};
var mismatch = (seq) => new DeltawireError(
  "text_mismatch",
  `the text of the message that ends after event ${seq ?? 0} is not what the gateway sent`
);
function subscribe(url, stream, options = {}) {
  return new Subscription(url, stream, options);
}

// src/transcript.ts
var EMPTY = { id: "", text: "", thinking: "", tools: [], hasGap: false };
function fold(transcript, item) {
  if (item.type === "gap" && item.reason === "epoch_changed") {
    return [];
  }
  if (item.type === "message_start") {
    const { message_id: id, model } = item.data;
    return [...transcript, { ...EMPTY, id, model }];
  }
  const last = transcript.at(-1) ?? EMPTY;
  const changed = item.type === "gap" ? { ...last, hasGap: true } : addEvent(last, item);
  return changed === last ? transcript : [...transcript.slice(0, -1), changed];
}
function addEvent(message, event2) {
  if ("choice" in event2.data && event2.data.choice) {
    return message;
  }
  switch (event2.type) {
    case "text_delta":
      return { ...message, text: message.text + event2.data.text };
    case "thinking":
      return { ...message, thinking: message.thinking + event2.data.thinking };
    case "content_start": {
      const { index, kind, id, name } = event2.data;
      return kind === "tool_use" ? { ...message, tools: [...message.tools, { index, id, name, json: "" }] } : message;
    }
    case "tool_delta":
      return { ...message, tools: addArguments(message.tools, event2.data.index, event2.data.partial_json) };
    case "usage":
      return { ...message, usage: event2.data };
    case "error":
      return { ...message, error: event2.data };
    case "message_stop":
      return { ...message, stopReason: event2.data.stop_reason };
    default:
      return message;
  }
}
function addArguments(tools, index, json) {
  const at = tools.findLastIndex((tool2) => tool2.index === index);
  const tool = tools[at] ?? { index, json: "" };
  const grown = { ...tool, json: tool.json + json };
  return at < 0 ? [...tools, grown] : tools.with(at, grown);
}
export {
  DeltawireError,
  fold,
  subscribe
};
