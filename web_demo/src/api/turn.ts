// One turn: what was asked, and the reply to it, read to its end however often the connection breaks.
//
//   sending ──► waiting ──► streaming ──► completed | incomplete | cancelled | failed
//      └──────────┴─────────────┴──► reconnecting ──► (back to where it was)
//
// An event counts once: those up to the last `sequence_number` are dropped, so a transport may send them again.
// Knows transports and the protocol; nothing of pages.

import { Backoff } from "./backoff.js";
import { ApiError, ConnectionLost, isAbort } from "./errors.js";
import { randomId } from "./ids.js";
import type { Pending, PendingTurns } from "./pending.js";
import type { Reader, Transport } from "./transport.js";
import type { Context, Response, StreamEvent, TurnRequest, Usage } from "./types.js";
import { textOf } from "./types.js";

export type TurnState =
  | "sending"
  | "waiting"
  | "streaming"
  | "reconnecting"
  | "completed"
  | "incomplete"
  | "cancelled"
  | "failed";

const SAVE_MS = 200;
const HEARD_MS = 5_000; // so long after a stop the server may still say the reply's id, by which it is cancelled
const OVER = new Set<TurnState>(["completed", "incomplete", "cancelled", "failed"]);

export class Turn implements Reader {
  state: TurnState = "sending";
  /** Place in the waiting line; 0 when the prompt is being read; null when nobody said. */
  place: number | null = null;
  context: Context | null = null;
  usage: Usage | null = null;
  error: Error | null = null;
  /** When the last text came, in milliseconds since 1970; null before. */
  latest: number | null = null;
  /** Whether `leave` ended it. */
  left = false;
  /** Called after every change; `event` is the one that made it, if any, and `raw` the same as it came. */
  changed: (event?: StreamEvent, raw?: string) => void = () => undefined;

  #stopping = false;
  #saved = 0;
  readonly #abort = new AbortController();
  readonly #backoff = new Backoff();

  /** Goes on with `pending`, which for a new turn is `newPending(…)`. Nothing happens before `run`. */
  constructor(
    readonly pending: Pending,
    private readonly transport: Transport,
    private readonly store: PendingTurns,
  ) {}

  get over(): boolean {
    return OVER.has(this.state);
  }

  /** Reads the reply to its end. Never throws: what went wrong is in `error`. */
  async run(): Promise<void> {
    const save = (): void => this.#save();
    addEventListener("pagehide", save);
    save();
    try {
      while (!this.over && !this.left) await this.#visit();
    } finally {
      removeEventListener("pagehide", save);
    }
  }

  /** Stops the reply: what there is of it stays. */
  stop(): void {
    this.#stopping = true;
    if (this.pending.response) void this.#cancel(this.pending.response);
    else if (this.state === "reconnecting") this.#giveUp();
    else setTimeout(() => this.pending.response ?? this.#giveUp(), HEARD_MS);
  }

  /** Ends this reader; the reply goes on, and so does its record. */
  leave(): void {
    this.left = true;
    this.#abort.abort();
  }

  event(event: StreamEvent, raw: string): void {
    if (this.over || event.sequence_number <= this.pending.last) return;
    this.pending.last = event.sequence_number;
    this.#backoff.reset();
    if (event.response) this.#note(event.response);
    switch (event.type) {
      case "response.created":
        this.state = "waiting";
        break;
      case "response.output_text.delta":
        this.#grow(event.delta ?? "");
        break;
      case "error":
        this.error = new ApiError(500, event.code ?? "unknown", event.message ?? "the reply failed");
        break;
      case "response.completed":
      case "response.incomplete":
      case "response.failed":
        this.#finish(event.response);
        break;
    }
    if (!this.over && Date.now() - this.#saved > SAVE_MS) this.#save();
    this.changed(event, raw);
  }

  waiting(place: number): void {
    if (this.over || this.pending.text) return;
    this.state = "waiting";
    this.place = place;
    this.changed();
  }

  /** One connection: from the beginning, or from where the last one broke. */
  async #visit(): Promise<void> {
    const { request, response, last, key } = this.pending;
    const signal = this.#abort.signal;
    try {
      if (response && this.#stopping) await this.#cancelAgain(response);
      if (response) await this.transport.resume(response, last, this, signal);
      else await this.transport.start(request, key, this, signal);
      if (!this.over) throw new ConnectionLost();
    } catch (error) {
      if (this.over || isAbort(error)) return;
      if (!this.#passes(error)) return this.#end("failed", error as Error);
      if (this.#stopping && !this.pending.response) return this.#giveUp();
      this.state = "reconnecting";
      this.changed();
      await this.#backoff.wait(error instanceof ApiError ? error.retryAfter : null, signal);
    }
  }

  /** Whether knocking again is right. A request that cannot be repeated and may have been heard is not sent twice. */
  #passes(error: unknown): boolean {
    if (error instanceof ApiError) return error.passing;
    if (!(error instanceof ConnectionLost)) return false;
    return this.pending.response !== null || this.transport.repeatable || !error.sent;
  }

  #note(response: Response): void {
    const known = this.pending.response !== null;
    this.pending.response = response.id;
    this.context = response.context ?? this.context;
    this.usage = response.usage;
    if (known) return;
    this.#save(); // from here on a reload finds the reply
    if (this.#stopping) void this.#cancel(response.id);
  }

  #grow(delta: string): void {
    this.state = "streaming";
    this.latest = Date.now();
    this.pending.first ??= this.latest;
    this.pending.tokens += 1;
    this.pending.text += delta;
  }

  #finish(response: Response | undefined): void {
    const said = (response?.output ?? []).map(textOf).join("");
    if (said) this.pending.text = said;
    if (response?.status === "failed") {
      const { code = "server_error", message = "the reply failed" } = response.error ?? {};
      return this.#end("failed", this.error ?? new ApiError(500, code, message));
    }
    this.pending.tokens = response?.usage?.output_tokens ?? this.pending.tokens;
    const status = response?.status;
    this.#end(status === "cancelled" || status === "incomplete" ? status : "completed");
  }

  #end(state: TurnState, error: Error | null = null): void {
    this.state = state;
    this.error = error;
    if (state === "failed") this.store.put({ ...this.pending, failed: error?.message ?? "the reply failed" });
    else this.store.remove(this.pending);
    this.#abort.abort(); // a connection may stay open after the last event
    this.changed();
  }

  /** The server cannot be told that nobody wants the reply; here it is over all the same. */
  #giveUp(): void {
    if (!this.over && !this.left) this.#end("cancelled");
  }

  async #cancel(response: string): Promise<void> {
    try {
      await this.transport.cancel(response);
    } catch {
      this.#giveUp();
    }
  }

  /** It was told on a connection that broke, so perhaps nobody heard it. Where it is refused the events tell why. */
  async #cancelAgain(response: string): Promise<void> {
    try {
      await this.transport.cancel(response);
    } catch (error) {
      if (!(error instanceof ApiError) || error.passing) throw error;
    }
  }

  #save(): void {
    if (this.over) return;
    this.#saved = Date.now();
    this.store.put(this.pending);
  }
}

export function newPending(
  conversation: string,
  request: TurnRequest,
  transport: Transport,
  tail: string | null,
): Pending {
  return {
    key: randomId(),
    transport: transport.name,
    conversation,
    request: { ...request, conversation },
    tail,
    response: null,
    last: -1,
    text: "",
    tokens: 0,
    began: Date.now(),
    first: null,
  };
}
