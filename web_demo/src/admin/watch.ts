// Reads the server again and again: every feed in its own rhythm, all of them in one loop.
//
//   connecting ──► live ◄──► away      the server cannot be reached: knock with growing pauses, then read everything
//                   │ ▲────► locked    it wants a key, or another one
//                   └─┴────► paused    nobody looks: the tab is hidden, and nothing is asked
//
// What was read before stays on the page whatever happens. Knows no endpoint and no page.

import { Backoff } from "../api/backoff.js";
import { ApiError, ConnectionLost } from "../api/errors.js";

export interface Feed {
  section: string; // what on the page it fills
  every: number; // milliseconds
  read(): Promise<void>;
}

export type LinkState = "connecting" | "live" | "away" | "locked" | "paused";

/** Whom the loop tells. */
export interface Listener {
  link(state: LinkState): void;
  /** This feed was refused, for a reason that does not stop the others; null: it was read. */
  section(name: string, problem: Error | null): void;
  /** The server wants a key. Resolves when there may be a better one. */
  locked(error: ApiError): Promise<void>;
}

/** A feed that did not come, for a reason that may pass. */
class Lost {
  constructor(
    readonly feed: Feed,
    readonly error: Error,
  ) {}
}

type Outcome = "read" | Lost | ApiError;

export class Watch {
  #state: LinkState = "connecting";
  #wake: () => void = () => undefined;
  readonly #due = new Map<Feed, number>(); // when each is read next, as `performance.now` counts
  readonly #backoff = new Backoff();
  readonly #never = new AbortController();

  /** The first feed is the one that knocks while the server is away, and without which a key is none for this page. */
  constructor(
    private readonly feeds: readonly Feed[],
    private readonly listener: Listener,
  ) {
    document.addEventListener("visibilitychange", () => this.#wake());
  }

  /** Reads this section's feed now rather than when it is its turn. */
  soon(section: string): void {
    for (const feed of this.feeds) if (feed.section === section) this.#due.delete(feed);
    this.#wake();
  }

  /** Never ends. */
  async run(): Promise<never> {
    for (;;) {
      if (document.hidden) {
        this.#tell("paused");
        await this.#sleep(Number.POSITIVE_INFINITY);
      } else await this.#round();
    }
  }

  async #round(): Promise<void> {
    const now = performance.now();
    const due = this.feeds.filter((feed) => (this.#due.get(feed) ?? 0) <= now);
    const asked = this.#state === "away" ? this.feeds.slice(0, 1) : due;
    const outcomes = await Promise.all(asked.map((feed) => this.#read(feed)));
    const refusal = outcomes.find((outcome) => outcome instanceof ApiError);
    if (refusal) {
      this.#tell("locked");
      await this.listener.locked(refusal);
      this.#due.clear();
      return;
    }
    const lost = outcomes.filter((outcome) => outcome instanceof Lost);
    if (lost.length && (await this.#isAway(lost, asked))) {
      this.#tell("away");
      this.#due.clear();
      await this.#backoff.wait(null, this.#never.signal);
    } else {
      for (const { feed, error } of lost) this.listener.section(feed.section, error);
      this.#backoff.reset();
      this.#tell("live");
      await this.#sleep(Math.min(...this.feeds.map((feed) => this.#due.get(feed) ?? 0)) - performance.now());
    }
  }

  /** Whether it is the server that is lost, which the first feed says, or single feeds. */
  async #isAway(lost: readonly Lost[], asked: readonly Feed[]): Promise<boolean> {
    const first = this.feeds[0];
    if (!first || asked.includes(first)) return lost.some(({ feed }) => feed === first);
    return (await this.#read(first)) instanceof Lost;
  }

  async #read(feed: Feed): Promise<Outcome> {
    this.#due.set(feed, performance.now() + feed.every);
    try {
      await feed.read();
      this.listener.section(feed.section, null);
      return "read";
    } catch (error) {
      if (error instanceof ConnectionLost || (error instanceof ApiError && error.passing)) return new Lost(feed, error);
      if (error instanceof ApiError && (error.status === 401 || (error.status === 403 && feed === this.feeds[0]))) return error;
      this.listener.section(feed.section, error as Error);
      return "read";
    }
  }

  #tell(state: LinkState): void {
    if (state !== this.#state) this.listener.link(state);
    this.#state = state;
  }

  /** So many milliseconds, or until somebody calls `#wake`. */
  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(milliseconds) ? setTimeout(() => this.#wake(), milliseconds) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
