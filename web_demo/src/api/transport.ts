// The contract of a transport: how the events of one reply reach the browser. Two keep it, over SSE and over a WebSocket.
//
// `start` and `resume` resolve when the stream ends, for whatever reason: whether the reply is over is told by its
// events, not by the connection. They reject with `ApiError` when the server refuses, with `ConnectionLost` when it
// cannot be reached or the connection breaks, and with an AbortError when `signal` says so.

import type { StreamEvent, TurnRequest } from "./types.js";

export interface Reader {
  /** `raw` is the event as it came, before it was parsed. */
  event(event: StreamEvent, raw: string): void;
  /** Nothing comes yet. `place` is the number in the waiting line; 0: the prompt is being read. */
  waiting(place: number): void;
}

export interface Transport {
  readonly name: TransportName;
  /** `key` names this request: where a transport is `repeatable`, sending it twice starts one reply. */
  start(request: TurnRequest, key: string, reader: Reader, signal: AbortSignal): Promise<void>;
  /** The events behind number `after` of a reply that exists. */
  resume(response: string, after: number, reader: Reader, signal: AbortSignal): Promise<void>;
  cancel(response: string): Promise<void>;
  /** Nothing more is asked for now: what is kept open for further replies is closed, behind the last that runs. */
  close(): void;
  readonly repeatable: boolean;
}

export type TransportName = "sse" | "websocket";
