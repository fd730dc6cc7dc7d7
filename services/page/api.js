// The API, as the page uses it: JSON calls with a token, problems as errors, and streams of events that come back.

const TOKEN = "lessrl-token";
const QUIET_MS = 45_000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 20_000;

// An answer that is no success: what RFC 9457 says of it.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the control plane answered ${status}`);
    this.status = status;
    this.slug = String(body.type ?? "").split(":").at(-1);
    this.body = body;
  }
}

// Nobody answered.
export class Away extends Error {
  constructor() {
    super("the control plane does not answer");
  }
}

export const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

export class Api extends EventTarget {
  get token() {
    return sessionStorage.getItem(TOKEN) ?? "";
  }

  set token(value) {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  }

  #headers(more) {
    return this.token ? { Authorization: `Bearer ${this.token}`, ...more } : more;
  }

  async #fetch(address, options) {
    let answer;
    try {
      answer = await fetch(address, { cache: "no-store", credentials: "omit", ...options });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Away();
    }
    if (answer.ok) return answer;
    const text = await answer.text().catch(() => "");
    let body = {};
    try {
      body = JSON.parse(text);
    } catch {
      body = { detail: text.slice(0, 200) };
    }
    if (answer.status === 401) this.dispatchEvent(new Event("unauthorized"));
    throw new Problem(answer.status, body);
  }

  // Answers with { data, etag }. query: values by name; null ones are left out, lists are repeated.
  async get(address, query = {}, signal = undefined) {
    const words = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      for (const each of Array.isArray(value) ? value : [value]) {
        if (each !== null && each !== undefined && each !== "") words.append(name, each);
      }
    }
    const tail = words.size ? `?${words}` : "";
    const answer = await this.#fetch(address + tail, { headers: this.#headers({ Accept: "application/json" }), signal });
    return { data: await answer.json(), etag: answer.headers.get("ETag") };
  }

  async send(method, address, body, headers = {}) {
    const answer = await this.#fetch(address, {
      method, body: JSON.stringify(body), headers: this.#headers({ "Content-Type": "application/json", ...headers }),
    });
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
  }

  // One event source: reads until it breaks, waits longer each time, goes on behind the last event that came.
  follow(address, { after, onEvent, onState }) {
    return new Stream(this, address, { after, onEvent, onState });
  }

  async open(address, lastId, signal) {
    const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": String(lastId) }) };
    return this.#fetch(address, { headers: this.#headers(headers), signal });
  }
}

class Stream {
  constructor(api, address, { after = null, onEvent, onState }) {
    Object.assign(this, { api, address, onEvent, onState, lastId: after, failures: 0 });
    this.leave = new AbortController();
    this.#run();
  }

  close() {
    this.leave.abort();
    this.wake?.();
  }

  // Try again now rather than when the wait is over.
  retry() {
    this.wake?.();
  }

  async #run() {
    const { signal } = this.leave;
    while (!signal.aborted) {
      try {
        this.onState("connecting", null);
        await this.#read();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && [401, 403, 404].includes(error.status)) {
          this.onState("refused", error);
          return;
        }
        this.failures += 1;
      }
      if (signal.aborted) return;
      const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.failures, 10) / 2);
      const wait = longest * (0.75 + 0.5 * Math.random());
      this.onState("away", Date.now() + wait);
      await new Promise((done) => {
        this.wake = done;
        setTimeout(done, wait);
      });
    }
  }

  async #read() {
    const quiet = new AbortController();
    const signal = AbortSignal.any([this.leave.signal, quiet.signal]);
    let timer = setTimeout(() => quiet.abort(), QUIET_MS);
    try {
      const answer = await this.api.open(this.address, this.lastId, signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      this.onState("live", null);
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) return;
        this.failures = 0;
        clearTimeout(timer);
        timer = setTimeout(() => quiet.abort(), QUIET_MS);
        const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.#take(block);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(block) {
    const fields = { data: [] };
    for (const line of block.split("\n")) {
      const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
      if (name === "data") fields.data.push(value);
      else if (name) fields[name] = value;
    }
    if (fields.id !== undefined) this.lastId = fields.id;
    if (fields.data.length && fields.id !== undefined) this.onEvent(JSON.parse(fields.data.join("\n")));
  }
}
