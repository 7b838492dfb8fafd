// What a chat page needs of Frontdesk's API: a visitor's session, the messages so far, an answer as it comes.
// The server keeps the conversation and the answers. So a message is all that is sent, a reload shows what was said, and
// a stream that breaks is taken up again behind its last event. Knows no page.

const SPARE_SECONDS = 30; // a token with less left is renewed before it is used
const ATTEMPTS = 10; // to come back to a broken stream, a second apart
const LAST = new Set(["response.completed", "response.incomplete", "response.failed", "error"]);

export class Frontdesk {
  #server;
  #widget;
  #session = null;
  #asked = null; // the session under way, so that two callers never become two visitors

  constructor(server, widget) {
    this.#server = server;
    this.#widget = widget;
  }

  /** A page of the conversation's items before the item `after`, the newest first: `{data, last_id, has_more}`. */
  async items(after, limit) {
    const { conversation } = await this.#current();
    const query = new URLSearchParams({ order: "desc", limit, ...(after && { after }) });
    return (await this.#call("GET", `/v1/conversations/${conversation}/items?${query}`)).json();
  }

  /** Yields the events of the answer to `text`, each once and in order. */
  async *answer(text) {
    const { conversation } = await this.#current();
    let stream = await this.#call("POST", "/v1/responses", { conversation, input: text, stream: true });
    let id = null;
    let seen = null;
    for (let attempt = 1; ; attempt++) {
      for await (const event of eventsOf(stream)) {
        id ??= event.response?.id;
        seen = event.sequence_number;
        attempt = 1;
        yield event;
        if (LAST.has(event.type)) return;
      }
      if (!id || attempt === ATTEMPTS) throw new Error("The connection broke. Please reload the page.");
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const address = `/v1/responses/${id}?stream=true&starting_after=${seen}`;
      stream = await this.#call("GET", address).catch(() => null); // the server may be starting again
    }
  }

  /** Stops an answer; what there is of it stays in the conversation, and its stream ends. */
  async stop(id) {
    await this.#call("POST", `/v1/responses/${id}/cancel`);
  }

  async #call(method, path, body) {
    const { token } = await this.#current();
    return this.#fetch(method, path, body, { authorization: `Bearer ${token}` });
  }

  async #fetch(method, path, body, headers) {
    const response = await fetch(this.#server + path, {
      method,
      headers: { ...headers, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    }).catch(() => {
      throw new Error("The chat cannot be reached."); // offline, or the server does not know this page's origin
    });
    if (response.ok) return response;
    const { error } = await response.json();
    throw Object.assign(new Error(error.message), { status: response.status });
  }

  /** The session, with a token that is still good. */
  async #current() {
    if (!this.#session || this.#session.expires_at - Date.now() / 1000 < SPARE_SECONDS) {
      this.#asked ??= this.#open().finally(() => (this.#asked = null));
      this.#session = await this.#asked;
    }
    return this.#session;
  }

  /** What stays in the browser is `refresh`, which finds the same visitor again for 30 days. */
  async #open() {
    const place = `frontdesk.refresh.${this.#widget}`;
    const refresh = localStorage.getItem(place) ?? undefined;
    try {
      const body = { widget: this.#widget, refresh };
      const session = await (await this.#fetch("POST", "/v1/widget/sessions", body)).json();
      localStorage.setItem(place, session.refresh);
      return session;
    } catch (error) {
      if (error.status !== 401 || !refresh) throw error;
      localStorage.removeItem(place); // it is too old: this browser begins as a new visitor
      return this.#open();
    }
  }
}

/** The JSON of each event of a stream, up to its end or the point where it breaks. `null` is a stream without any. */
async function* eventsOf(response) {
  const reader = response?.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; reader; ) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}
