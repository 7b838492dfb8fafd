// A client and a transport that ask as the visitor: with a token that is good, and once more with another one where the
// server says that it has expired.

import { Client } from "../api/client.js";
import { ApiError, ConnectionLost } from "../api/errors.js";
import type { Reader, Transport } from "../api/transport.js";
import type { TurnRequest } from "../api/types.js";
import type { Session } from "./session.js";

export class VisitorClient extends Client {
  constructor(private readonly session: Session) {
    super(session.server, () => session.token);
  }

  override async ask(path: string, options: RequestInit = {}): Promise<Response> {
    await this.session.fresh();
    return onceMore(this.session, () => super.ask(path, options));
  }
}

const MOST_UNOPENED = 3;

/** For a transport that does not ask through the client alone: a socket speaks for the token that it was opened with.
 * Where sockets are not let through, by the page's policy or by a network, the `other` transport takes its place. */
export class VisitorTransport implements Transport {
  #unopened = 0; // sockets in a row that could not be opened, be it for the network or for their token

  constructor(
    private inner: Transport,
    private readonly other: Transport,
    private readonly session: Session,
  ) {}

  get name(): Transport["name"] {
    return this.inner.name;
  }

  get repeatable(): boolean {
    return this.inner.repeatable;
  }

  start(request: TurnRequest, key: string, reader: Reader, signal: AbortSignal): Promise<void> {
    return this.#run(() => this.inner.start(request, key, reader, signal));
  }

  resume(response: string, after: number, reader: Reader, signal: AbortSignal): Promise<void> {
    return this.#run(() => this.inner.resume(response, after, reader, signal));
  }

  cancel(response: string): Promise<void> {
    return this.inner.cancel(response);
  }

  close(): void {
    this.inner.close();
  }

  async #run(act: () => Promise<void>): Promise<void> {
    try {
      await (this.#unopened ? this.session.renew() : this.session.fresh());
    } catch (error) {
      throw error instanceof ConnectionLost ? new ConnectionLost(false) : error;
    }
    try {
      await onceMore(this.session, act);
      this.#unopened = 0;
    } catch (error) {
      this.#unopened = error instanceof ConnectionLost && !error.sent ? this.#unopened + 1 : 0;
      if (this.#unopened === MOST_UNOPENED) this.inner = this.other;
      throw error;
    }
  }
}

async function onceMore<T>(session: Session, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) throw error;
    await session.renew();
    return act();
  }
}
