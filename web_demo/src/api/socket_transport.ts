// Replies over the WebSocket of the Responses API: one socket for all of them, each in a lane of its own.
//
// The socket is opened when it is needed and never reopened behind anybody's back: when it closes, every lane on it
// ends with `ConnectionLost`, and whoever reads comes back. A socket speaks for the key that opened it: with another key
// another one is opened, and the old one is closed behind its last lane. A browser does not show the pings of a socket:
// so a lane that is told nothing asks, and where nobody answers it is lost. Knows the lanes, not what events mean.

import type { Client } from "./client.js";
import { ApiError, ConnectionLost } from "./errors.js";
import { randomId } from "./ids.js";
import { LONGEST, listenFor, type Silence } from "./silence.js";
import type { Reader, Transport } from "./transport.js";
import type { StreamEvent, TurnRequest } from "./types.js";

const NOT_ACTIVE = "response_not_active"; // what the server says of a response that it is not telling here
const ENDS = new Set(["response.completed", "response.incomplete", "response.failed"]);
const OPENING_MS = 10_000;
const QUIET = 5; // beats without a word after which a lane that has text asks whether anybody is there

interface Lane {
  socket: WebSocket;
  reader: Reader;
  response: string; // empty until the server says it, unless the lane resumes it
  told: boolean; // the server has begun to tell it here
  begun: boolean; // there is text
  silence: Silence;
  resolve(): void;
  reject(error: Error): void;
}

/** What is told on the socket alone: errors, nested, with a status where HTTP has one; a place in the waiting line. */
interface SocketEvent {
  status?: number;
  error?: { code?: string; message?: string };
  place?: number;
}

export class SocketTransport implements Transport {
  readonly name = "websocket";
  readonly repeatable = false;
  #socket: Promise<WebSocket> | null = null;
  #key: string | null = null; // with which it was opened
  #lanes = new Map<string, Lane>();

  constructor(private readonly client: Client) {}

  start(request: TurnRequest, key: string, reader: Reader, signal: AbortSignal): Promise<void> {
    return this.#run({ type: "response.create", ...request }, "", key, reader, signal);
  }

  resume(response: string, after: number, reader: Reader, signal: AbortSignal): Promise<void> {
    const message = { type: "response.resume", response_id: response, starting_after: after };
    return this.#run(message, response, randomId(), reader, signal);
  }

  /** Over HTTP when the reply does not run on this socket, or the socket is closing: that works from anywhere. */
  async cancel(response: string): Promise<void> {
    const lane = [...this.#lanes.values()].find((lane) => lane.told && lane.response === response);
    const socket = lane?.socket;
    if (socket?.readyState !== WebSocket.OPEN) await this.client.post(`/v1/responses/${response}/cancel`, {});
    else socket.send(JSON.stringify({ type: "response.cancel", response_id: response }));
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = null;
    socket?.then((socket) => this.#closeUnused(socket)).catch(() => undefined);
  }

  async #run(message: object, response: string, lane: string, reader: Reader, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted(); // a socket that is opened after `close` would stay open
    const socket = await this.#open();
    signal.throwIfAborted();
    const silence = listenFor((beats) => this.#beat(lane, beats));
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      this.#lanes.set(lane, { socket, reader, response, told: false, begun: false, silence, resolve, reject });
      socket.send(JSON.stringify({ ...message, stream_id: lane }));
    }).finally(() => {
      silence.end();
      this.#lanes.delete(lane);
      void this.#closeUnused(socket);
    });
  }

  /** Asks for the place in the waiting line: each time until there is text, then where nothing else comes. */
  #beat(name: string, beats: number): void {
    const lane = this.#lanes.get(name);
    if (beats >= LONGEST) {
      this.close(); // a dead socket may go on closing for long: nothing more may be asked on it
      lane?.reject(new ConnectionLost());
    }
    if (!lane || (lane.begun && beats < QUIET) || lane.socket.readyState !== WebSocket.OPEN) return;
    const id = lane.response || name; // that no response has this id is an answer too
    lane.socket.send(JSON.stringify({ type: "response.place", response_id: id, stream_id: name }));
  }

  #open(): Promise<WebSocket> {
    const key = this.client.key();
    if (key !== this.#key) this.close();
    this.#key = key;
    this.#socket ??= this.#connect(key);
    return this.#socket;
  }

  /** Closes a socket on which nothing will be asked any more, unless something still runs on it. */
  async #closeUnused(socket: WebSocket): Promise<void> {
    const current = await this.#socket?.catch(() => null);
    if (socket !== current && ![...this.#lanes.values()].some((lane) => lane.socket === socket)) socket.close();
  }

  #connect(key: string | null): Promise<WebSocket> {
    const opening = new Promise<WebSocket>((resolve, reject) => {
      const protocols = key ? ["realtime", `openai-insecure-api-key.${key}`] : [];
      let socket: WebSocket;
      try {
        socket = new WebSocket(`${this.client.base.replace(/^http/, "ws")}/v1/responses`, protocols);
      } catch {
        return reject(new ConnectionLost(false)); // what some browsers do where a page's policy forbids it
      }
      const timer = setTimeout(() => socket.close(), OPENING_MS);
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(socket);
      };
      socket.onmessage = (message) => this.#receive(String(message.data));
      // In other browsers such a policy closes it without saying so.
      socket.onclose = socket.onerror = () => {
        clearTimeout(timer);
        unused();
        reject(new ConnectionLost(false));
        for (const lane of [...this.#lanes.values()]) if (lane.socket === socket) lane.reject(new ConnectionLost());
      };
    });
    const unused = (): void => {
      if (this.#socket === opening) this.#socket = null;
    };
    opening.catch(unused);
    return opening;
  }

  #receive(text: string): void {
    const event = JSON.parse(text) as StreamEvent & SocketEvent;
    const lane = this.#lanes.get(event.stream_id ?? "");
    if (!lane) return;
    lane.silence.heard();
    if (event.type === "response.place") return lane.reader.waiting(event.place ?? 0);
    const said = event.error;
    if (event.type === "error" && event.sequence_number === undefined) {
      if (said?.code === NOT_ACTIVE) return; // its place was asked for before the server had begun to tell it
      lane.reject(new ApiError(event.status ?? 400, said?.code ?? "unknown", said?.message ?? "the server refused"));
      return;
    }
    lane.told = true;
    if (event.response) lane.response = event.response.id;
    if (event.delta) lane.begun = true;
    // Inside a stream an error is flat over HTTP; readers get it like that.
    const flat = said ? { ...event, code: said.code ?? "unknown", message: said.message ?? "" } : event;
    lane.reader.event(flat, text);
    if (ENDS.has(event.type)) lane.resolve();
  }
}
