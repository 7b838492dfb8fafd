// The visitor's session: a short-lived token for this page's origin, renewed before its time is over. No key of the
// server ever comes here.
//
// Who the visitor is, in this order: whom the page vouches for (`identify`), whom this browser remembers, somebody new.
// A remembered visitor whom the page once vouched for is only taken up again when it does so again: on a shared computer
// the next person must not find the conversation of the one before.

import { Client } from "../api/client.js";
import { ApiError, ConnectionLost } from "../api/errors.js";
import type { Visit, Visits } from "./visits.js";

const PATH = "/v1/widget/sessions";
const EARLY_MS = 60_000; // so long before its end a token is renewed
const LONGEST_MS = 10_000; // that is waited for another tab, or for a sign that the server is there

/** A JSON Web Token that the customer's server signed, or a function that fetches one. */
export type Identity = string | (() => string | Promise<string>);

interface Answer {
  token: string;
  expires_at: number;
  refresh: string;
  visitor: { id: string; identified: boolean };
  conversation: string;
}

interface Body {
  refresh?: string;
  identity?: string;
  conversation?: string;
  new?: boolean;
}

export class Session {
  /** What requests carry; null before the first session. */
  token: string | null = null;
  /** The conversation that the session is about; "" before the first. */
  conversation = "";
  #refresh = ""; // opens another session of this one's visitor, also where the browser's record of them is gone
  #renewAt = 0;
  #renewing: Promise<void> | null = null;
  #identity: Identity | null = null;
  #exchanged = false; // the identity was, for a session
  #era = 0; // rises when the visitor may be somebody else: an answer of an earlier one comes too late
  readonly #client: Client;

  constructor(
    readonly server: string,
    private readonly widget: string,
    private readonly visits: Visits,
  ) {
    this.#client = new Client(server);
  }

  /** The visitor whom this page may take up again, if any. */
  get remembered(): Visit | null {
    const visit = this.visits.get();
    return visit && (!visit.identified || this.vouched) ? visit : null;
  }

  /** Whether the page says who the visitor is. */
  get vouched(): boolean {
    return this.#identity !== null;
  }

  /** The page vouches for the visitor from now on. */
  identify(identity: Identity): void {
    this.#identity = identity;
    this.#exchanged = false;
    this.forget();
  }

  /** The visitor is forgotten; the next session is somebody new's. */
  reset(): void {
    this.#identity = null;
    this.visits.clear();
    this.forget();
  }

  /** Resolves when the token is good for a while. Throws `ApiError`, `ConnectionLost`, or an AbortError where the page
   * meanwhile said that the visitor is somebody else. */
  async fresh(): Promise<void> {
    if (this.token === null || Date.now() >= this.#renewAt) await this.renew();
  }

  /** Gets another token for the same visitor and conversation. */
  renew(): Promise<void> {
    const era = this.#era;
    this.#renewing ??= alone(this.widget, () => this.#open()).finally(() => {
      if (era === this.#era) this.#renewing = null;
    });
    return this.#renewing;
  }

  /** Begins another conversation of the same visitor. */
  async begin(): Promise<void> {
    await this.fresh();
    const era = this.#era;
    this.#keep(await this.#ask({ refresh: this.#refresh, new: true }), era);
  }

  /** The next request asks for another token, for whatever conversation this browser remembers then. */
  forget(): void {
    this.token = null;
    this.conversation = this.#refresh = "";
    this.#era += 1;
    this.#renewing = null;
  }

  /** Tries who the visitor may be, one after the other, as long as the server does not believe it. */
  async #open(): Promise<void> {
    const [visit, era] = [this.remembered, this.#era];
    const ways: (() => Promise<Body>)[] = [];
    const same = visit ? { conversation: visit.conversation } : {};
    if (visit && (!this.vouched || this.#exchanged)) ways.push(async () => ({ refresh: visit.refresh, ...same }));
    if (this.#identity === null) ways.push(async () => ({}));
    // What an unknown visitor said before stays theirs: it is no conversation of whom the page knows.
    else ways.push(async () => ({ identity: await value(this.#identity), ...(visit?.identified && same) }));
    for (const [number, way] of ways.entries()) {
      try {
        this.#keep(await this.#inOrNewest(await way()), era);
        this.#exchanged = this.vouched;
        return;
      } catch (error) {
        const disbelieved = error instanceof ApiError && error.status === 401;
        if (!disbelieved || number === ways.length - 1) throw error;
      }
    }
  }

  /** A session in the conversation that is named, or in the visitor's newest where that is gone or somebody else's. */
  async #inOrNewest({ conversation, ...who }: Body): Promise<Answer> {
    try {
      return await this.#ask(conversation ? { ...who, conversation } : who);
    } catch (error) {
      if (!conversation || !(error instanceof ApiError && error.status === 404)) throw error;
      return this.#ask(who);
    }
  }

  async #ask(body: Body): Promise<Answer> {
    // A browser does not say whether nobody answered or the answer is not for this page. The server is there: so once
    // more, in case it was just coming up, and then it is the page.
    for (let again = false; ; again = true) {
      try {
        return await this.#client.post<Answer>(PATH, { widget: this.widget, ...body });
      } catch (error) {
        if (!(error instanceof ConnectionLost) || error.late || !(await this.#isThere())) throw error;
        if (again) throw new ApiError(403, "origin_not_allowed", `${location.origin} is not an origin of this widget`);
      }
    }
  }

  /** Whether the server itself answers, and not a proxy in its place: every page may read that. */
  async #isThere(): Promise<boolean> {
    try {
      return (await fetch(`${this.server}/livez`, { cache: "no-store", signal: AbortSignal.timeout(LONGEST_MS) })).ok;
    } catch {
      return false;
    }
  }

  #keep(answer: Answer, era: number): void {
    if (era !== this.#era) throw new DOMException("", "AbortError");
    const left = answer.expires_at * 1000 - Date.now();
    this.token = answer.token;
    this.#refresh = answer.refresh;
    // A clock that is far off says nothing about the time left: then the server says when it is over.
    this.#renewAt = left > 0 ? Date.now() + Math.max(left - EARLY_MS, left / 2) : Infinity;
    this.conversation = answer.conversation;
    const before = this.visits.get();
    const same = before?.conversation === answer.conversation;
    this.visits.put({
      refresh: answer.refresh,
      visitor: answer.visitor.id,
      identified: answer.visitor.identified,
      conversation: answer.conversation,
      seen: same ? before.seen : "",
      handoff: same && before.handoff,
    });
  }
}

/** The page's function may ask a server of its own, which may be out of reach too. */
async function value(identity: Identity | null): Promise<string> {
  try {
    return typeof identity === "function" ? await identity() : (identity ?? "");
  } catch (error) {
    console.warn("identify:", error);
    throw new ConnectionLost();
  }
}

/** One tab after the other, so that two that begin at once become one visitor. Browsers offer it to secure pages only,
 * and refuse it where they forbid storage: there it is done at once, and so it is where another tab takes too long. */
async function alone(name: string, act: () => Promise<void>): Promise<void> {
  let acted: Promise<void> | undefined;
  const once = (): Promise<void> => (acted ??= act());
  const { locks } = navigator as { locks?: LockManager };
  const signal = AbortSignal.timeout(LONGEST_MS);
  await locks?.request(`frontdesk.${name}`, { signal }, once).catch(() => undefined);
  await once(); // what went wrong in it is thrown here
}
