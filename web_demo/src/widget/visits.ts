// What the visitor's browser keeps between page loads, beside the host page's own things: who the visitor is and where
// the conversation was. One record a widget.

import { parsed, Store } from "../api/store.js";

export interface Visit {
  refresh: string; // opens the next session of the same visitor
  visitor: string;
  identified: boolean; // the customer's server vouched for who this is
  conversation: string;
  seen: string; // id of the newest answer that was seen; "" for none
  handoff: boolean; // a person was asked for
}

const store = new Store(() => localStorage); // one for the page, whose memory outlives an element

export class Visits {
  readonly store = store;
  readonly #name: string;

  constructor(widget: string) {
    this.#name = `frontdesk.${widget}`;
  }

  /** Begins the names of everything else that this widget keeps. */
  get prefix(): string {
    return `${this.#name}.`;
  }

  get(): Visit | null {
    return parsed(this.store.get(this.#name));
  }

  put(visit: Visit): void {
    this.store.set(this.#name, JSON.stringify(visit));
  }

  /** Changes the record, if there is one. */
  change(changes: Partial<Visit>): void {
    const visit = this.get();
    if (visit) this.put({ ...visit, ...changes });
  }

  /** Forgets the visitor, and every turn that was not over. */
  clear(): void {
    this.store.remove(this.#name);
    this.store.clear(this.prefix);
  }

  /** Calls when another tab changed or forgot the record, until `signal` ends it. */
  watch(changed: (visit: Visit | null) => void, signal: AbortSignal): void {
    this.store.watch((name, value) => {
      if (name === this.#name) changed(parsed(value));
    }, signal);
  }
}
