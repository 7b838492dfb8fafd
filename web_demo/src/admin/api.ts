// The endpoints that the operator's page reads, and the one that it writes. They are everybody's: what it takes is a key
// with the scope `admin`. Knows no page.

import { Client } from "../api/client.js";
import { ConnectionLost } from "../api/errors.js";
import type { Model } from "../api/types.js";
import type { Handoff, KeyEntry, Listed, LiveReply, Metrics, Rated, Readiness, Trouble, UsageRow, Widget } from "./types.js";

const PATIENCE_MS = 10_000; // a server that says nothing for so long is away
const PAGE = 20;

export class OperatorApi {
  constructor(private readonly client: Client) {}

  /** Also of a server that starts or stops, which says so with a 503. Throws `ConnectionLost`. */
  async readiness(): Promise<Readiness> {
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const answer = await fetch(`${this.client.base}/readyz`, { cache: "no-store", signal });
      return (await answer.json()) as Readiness;
    } catch {
      throw new ConnectionLost();
    }
  }

  live(): Promise<Listed<LiveReply>> {
    return this.#get("/v1/replies/live");
  }

  /** The last hour, or what of it is younger than `since`. */
  metrics(since: number | null): Promise<Metrics> {
    return this.#get(`/v1/metrics/recent${since === null ? "" : `?since=${since}`}`);
  }

  models(): Promise<Listed<Model>> {
    return this.#get("/v1/models");
  }

  keys(): Promise<Listed<KeyEntry>> {
    return this.#get("/v1/keys");
  }

  widgets(): Promise<Listed<Widget>> {
    return this.#get("/v1/widgets");
  }

  /** Of the last so many days; `by` is "day", "model" or "key". */
  usage(by: string, days: number): Promise<Listed<UsageRow>> {
    return this.#get(`/v1/usage?by=${by}&since=${days}d`);
  }

  errors(limit: number): Promise<Listed<Trouble>> {
    return this.#get(`/v1/errors/recent?limit=${limit}`);
  }

  /** The newest first. `rating` is "" for all of them. */
  feedback(rating: string, after = ""): Promise<Listed<Rated>> {
    return this.#get(`/v1/feedback?limit=${PAGE}${rating && `&rating=${rating}`}${after && `&after=${after}`}`);
  }

  handoffs(state: string, after = ""): Promise<Listed<Handoff>> {
    return this.#get(`/v1/handoffs?limit=${PAGE}&state=${state}${after && `&after=${after}`}`);
  }

  async mark(handoff: string, state: "open" | "done"): Promise<void> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    await this.client.ask(`/v1/handoffs/${handoff}`, { method: "POST", body: JSON.stringify({ state }), signal });
  }

  async #get<T>(path: string): Promise<T> {
    const answer = await this.client.ask(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
    try {
      return (await answer.json()) as T;
    } catch {
      throw new ConnectionLost(); // the body broke off
    }
  }
}
