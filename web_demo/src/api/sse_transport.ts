// Replies over HTTP: a POST whose answer is an event stream, and a GET that goes on behind any event of it.

import type { Client } from "./client.js";
import { ConnectionLost, isAbort } from "./errors.js";
import { frames } from "./sse.js";
import type { Reader, Transport } from "./transport.js";
import type { StreamEvent, TurnRequest } from "./types.js";

export class SseTransport implements Transport {
  readonly name = "sse";
  readonly repeatable = true;

  constructor(private readonly client: Client) {}

  async start(request: TurnRequest, key: string, reader: Reader, signal: AbortSignal): Promise<void> {
    const body = JSON.stringify({ ...request, stream: true });
    const headers = { "idempotency-key": key };
    await read(await this.client.ask("/v1/responses", { method: "POST", body, headers, signal }), reader);
  }

  async resume(response: string, after: number, reader: Reader, signal: AbortSignal): Promise<void> {
    const from = after < 0 ? "" : `&starting_after=${after}`;
    await read(await this.client.ask(`/v1/responses/${response}?stream=true${from}`, { signal }), reader);
  }

  async cancel(response: string): Promise<void> {
    await this.client.post(`/v1/responses/${response}/cancel`, {});
  }

  close(): void {
    // Each reply has a connection of its own, which ends with it.
  }
}

async function read(answer: globalThis.Response, reader: Reader): Promise<void> {
  if (!answer.body) return;
  try {
    for await (const { data, comment } of frames(answer.body)) {
      if (comment) reportWaiting(comment, reader);
      else if (data !== "[DONE]") reader.event(JSON.parse(data) as StreamEvent, data);
    }
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ConnectionLost();
  }
}

/** The keep-alive comments of a reply that has no text yet say where it stands. */
function reportWaiting(comment: string, reader: Reader): void {
  if (comment === "prefill") reader.waiting(0);
  else if (comment.startsWith("queued ")) reader.waiting(Number(comment.slice(7)));
}
