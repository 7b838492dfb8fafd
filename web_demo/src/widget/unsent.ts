// A question that was asked before there is a conversation to ask it in. The browser keeps it, so that a reload on a slow
// line goes on with it. Of tabs that wait with the same one, the first that has a conversation asks.

import { parsed } from "../api/store.js";
import type { Visits } from "./visits.js";

interface Question {
  text: string;
  anew: boolean; // it is for another conversation than the one that the browser remembers
}

export class Unsent {
  #text = "";
  readonly #name: string;

  constructor(private readonly visits: Visits) {
    this.#name = `${visits.prefix}unsent`;
  }

  /** What an earlier page, or another tab, waits with. */
  get kept(): Question | null {
    return parsed(this.visits.store.get(this.#name));
  }

  put(text: string, anew: boolean): void {
    this.#text = text;
    const question: Question = { text, anew };
    this.visits.store.set(this.#name, JSON.stringify(question));
  }

  /** What waits here, for whoever asks it or gives it back; "" for nothing, or what another tab has taken. */
  take(): string {
    const text = this.#text && this.kept ? this.#text : "";
    if (text) this.visits.store.remove(this.#name);
    this.#text = "";
    return text;
  }
}
