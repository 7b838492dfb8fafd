// Replies over the WebSocket of the Responses API: one socket for all of them, each in a lane of its own.
//
// The socket is opened when it is needed and never reopened behind anybody's back: when it closes, every lane on it
// ends with `ConnectionLost`, and whoever reads comes back. Knows the lanes, not what events mean.

import type { Client } from "./client.js";
import { ApiError, ConnectionLost } from "./errors.js";
import { randomId } from "./ids.js";
import type { Reader, Transport } from "./transport.js";
import type { StreamEvent, TurnRequest } from "./types.js";

const ENDS = new Set(["response.completed", "response.incomplete", "response.failed"]);
const OPENING_MS = 10_000;

interface Lane {
  reader: Reader;
  response: string; // empty until the server says it
  resolve(): void;
  reject(error: Error): void;
}

/** An error of the socket: nested, with a status where HTTP would have had one. */
interface SocketError {
  status?: number;
  error?: { code?: string; message?: string };
}

export class SocketTransport implements Transport {
  readonly name = "websocket";
  readonly repeatable = false;
  #socket: Promise<WebSocket> | null = null;
  #lanes = new Map<string, Lane>();

  constructor(private readonly client: Client) {}

  start(request: TurnRequest, key: string, reader: Reader, signal: AbortSignal): Promise<void> {
    return this.#run({ type: "response.create", ...request }, key, reader, signal);
  }

  resume(response: string, after: number, reader: Reader, signal: AbortSignal): Promise<void> {
    const message = { type: "response.resume", response_id: response, starting_after: after };
    return this.#run(message, randomId(), reader, signal);
  }

  /** Over HTTP when the reply does not run on this socket: that works from anywhere. */
  async cancel(response: string): Promise<void> {
    const runsHere = [...this.#lanes.values()].some((lane) => lane.response === response);
    if (!runsHere) await this.client.post(`/v1/responses/${response}/cancel`, {});
    else (await this.#open()).send(JSON.stringify({ type: "response.cancel", response_id: response }));
  }

  async #run(message: object, lane: string, reader: Reader, signal: AbortSignal): Promise<void> {
    const socket = await this.#open();
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      this.#lanes.set(lane, { reader, response: "", resolve, reject });
      socket.send(JSON.stringify({ ...message, stream_id: lane }));
    }).finally(() => this.#lanes.delete(lane));
  }

  #open(): Promise<WebSocket> {
    this.#socket ??= this.#connect();
    return this.#socket;
  }

  #connect(): Promise<WebSocket> {
    return new Promise((resolve, reject) => {
      const key = this.client.key();
      const protocols = key ? ["realtime", `openai-insecure-api-key.${key}`] : [];
      const socket = new WebSocket(`${this.client.base.replace(/^http/, "ws")}/v1/responses`, protocols);
      const timer = setTimeout(() => socket.close(), OPENING_MS);
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(socket);
      };
      socket.onmessage = (message) => this.#receive(String(message.data));
      socket.onclose = () => {
        clearTimeout(timer);
        this.#socket = null;
        reject(new ConnectionLost(false));
        for (const lane of [...this.#lanes.values()]) lane.reject(new ConnectionLost());
      };
    });
  }

  #receive(text: string): void {
    const event = JSON.parse(text) as StreamEvent & SocketError;
    const lane = this.#lanes.get(event.stream_id ?? "");
    if (!lane) return;
    const said = event.error;
    if (event.type === "error" && event.sequence_number === undefined) {
      lane.reject(new ApiError(event.status ?? 400, said?.code ?? "unknown", said?.message ?? "the server refused"));
      return;
    }
    if (event.response) lane.response = event.response.id;
    // Inside a stream an error is flat over HTTP; readers get it like that.
    lane.reader.event(said ? { ...event, code: said.code ?? "unknown", message: said.message ?? "" } : event);
    if (ENDS.has(event.type)) lane.resolve();
  }
}
