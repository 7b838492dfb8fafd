// Questions that were asked before there is a conversation to ask them in. The browser keeps them, so that a reload on
// a slow line goes on with one. Of tabs that wait with the same one, the first that has a conversation asks.
//
// What somebody asks whom the page vouches for stays in the page: the next person at this browser must not find it.

import { parsed } from "../api/store.js";
import type { Visits } from "./visits.js";

const LONGEST_MS = 600_000; // older than this, it is nobody's but who waits with it

interface Question {
  text: string;
  anew: boolean; // it is for another conversation than the one that the browser remembers
  at: number; // when it was asked, in milliseconds since 1970
}

export class Unsent {
  #text = "";
  readonly #held: string;
  readonly #names: readonly string[];

  constructor(private readonly visits: Visits) {
    this.#held = `${visits.prefix}held`;
    this.#names = [this.#held, `${visits.prefix}unsent`];
  }

  /** Whether something was put here and not taken. */
  get waiting(): boolean {
    return this.#text !== "";
  }

  /** The first that an earlier page, another tab or an earlier life of the element waits with. */
  get kept(): Question | undefined {
    return this.#names.flatMap((name) => this.#list(name))[0];
  }

  /** `vouched`: the page vouches for who asks. */
  put(text: string, anew: boolean, vouched: boolean): void {
    this.#text = text;
    this.#remove(text);
    const name = this.#names[vouched ? 0 : 1] as string;
    this.#write(name, [...this.#list(name), { text, anew, at: Date.now() }]);
  }

  /** What waits here, for whoever asks it or gives it back; "" for nothing, or what another tab has taken. */
  take(): string {
    const text = this.#remove(this.#text) ? this.#text : "";
    this.#text = "";
    return text;
  }

  #list(name: string): Question[] {
    const all = parsed<Question[]>(this.visits.store.get(name)) ?? [];
    return all.filter(({ text, at }) => text === this.#text || Date.now() - at < LONGEST_MS);
  }

  #write(name: string, questions: Question[]): void {
    const { store } = this.visits;
    const text = JSON.stringify(questions);
    if (!questions.length) store.remove(name);
    else if (name === this.#held) store.hold(name, text);
    else store.set(name, text);
  }

  /** Whether it was there. */
  #remove(text: string): boolean {
    let found = false;
    for (const name of this.#names) {
      const all = this.#list(name);
      const others = all.filter((one) => one.text !== text);
      if (others.length === all.length) continue;
      found = true;
      this.#write(name, others);
    }
    return found;
  }
}
