// What the visitor's browser keeps between page loads, beside the host page's own things: who the visitor is and where
// the conversation was. One record a widget. Where the browser forbids storage, it lives as long as the page.

import type { Store } from "../api/pending.js";

export interface Visit {
  refresh: string; // opens the next session of the same visitor
  visitor: string;
  identified: boolean; // the customer's server vouched for who this is
  conversation: string;
  seen: string; // id of the newest answer that was seen; "" for none
  handoff: boolean; // a person was asked for
}

export class Visits {
  readonly storage: Store;
  readonly #name: string;
  #unsaved: Visit | null = null; // what the storage did not take

  constructor(widget: string) {
    this.storage = allowedStorage();
    this.#name = `frontdesk.${widget}`;
  }

  /** Begins the names of everything else that this widget keeps. */
  get prefix(): string {
    return `${this.#name}.`;
  }

  get(): Visit | null {
    return this.#unsaved ?? parsed(this.storage.getItem(this.#name));
  }

  put(visit: Visit): void {
    this.#unsaved = null;
    try {
      this.storage.setItem(this.#name, JSON.stringify(visit));
    } catch {
      this.#unsaved = visit; // storage is full: then the next page load begins anew, and everything else works
    }
  }

  /** Changes the record, if there is one. */
  change(changes: Partial<Visit>): void {
    const visit = this.get();
    if (visit) this.put({ ...visit, ...changes });
  }

  /** Forgets the visitor, and every turn that was not over. */
  clear(): void {
    this.#unsaved = null;
    this.storage.removeItem(this.#name);
    for (const name of Object.keys(this.storage)) if (name.startsWith(this.prefix)) this.storage.removeItem(name);
  }

  /** Calls when another tab changed or forgot the record, until `signal` ends it. */
  watch(changed: (visit: Visit | null) => void, signal: AbortSignal): void {
    const heard = (event: StorageEvent): void => {
      if (event.storageArea !== this.storage || event.key !== this.#name) return;
      this.#unsaved = null;
      changed(parsed(event.newValue));
    };
    addEventListener("storage", heard, { signal });
  }
}

function parsed(text: string | null): Visit | null {
  try {
    return text === null ? null : (JSON.parse(text) as Visit);
  } catch {
    return null;
  }
}

function allowedStorage(): Store {
  try {
    return window.localStorage;
  } catch {
    return new PageStore();
  }
}

/** Keeps things as the browser's storage does: as its own properties. */
class PageStore implements Store {
  [name: string]: unknown;

  getItem(name: string): string | null {
    return (this[name] as string | undefined) ?? null;
  }

  setItem(name: string, value: string): void {
    this[name] = value;
  }

  removeItem(name: string): void {
    delete this[name];
  }
}
