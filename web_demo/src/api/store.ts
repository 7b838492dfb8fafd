// What a page keeps in the browser. Where the browser forbids its storage, and what no longer fits into it, stays in
// memory: that lasts as long as the page, and everything else works.

export class Store {
  #area: Storage | null = null;
  readonly #unsaved = new Map<string, string>(); // what the browser did not take, or is not given

  /** `area` gives `localStorage` or `sessionStorage`; naming them throws where they are forbidden. */
  constructor(area: () => Storage) {
    try {
      this.#area = area();
    } catch {
      // forbidden
    }
  }

  get(name: string): string | null {
    return this.#unsaved.get(name) ?? this.#area?.getItem(name) ?? null;
  }

  /** For the page alone. */
  hold(name: string, value: string): void {
    this.#unsaved.set(name, value);
  }

  /** Whether the browser took it. */
  set(name: string, value: string): boolean {
    this.hold(name, value);
    try {
      (this.#area as Storage).setItem(name, value); // throws where there is none, and where it is full
      return this.#unsaved.delete(name);
    } catch {
      return false;
    }
  }

  remove(name: string): void {
    this.#unsaved.delete(name);
    this.#area?.removeItem(name);
  }

  /** Removes everything whose name begins so, but for what is `kept`. */
  clear(prefix: string, kept = ""): void {
    for (const name of [...this.#unsaved.keys(), ...Object.keys(this.#area ?? {})]) {
      if (name.startsWith(prefix) && name !== kept) this.remove(name);
    }
  }

  /** Calls when another tab changed something, or with null when it removed it, until `signal` ends it. */
  watch(changed: (name: string, value: string | null) => void, signal?: AbortSignal): void {
    const heard = ({ storageArea, key, newValue }: StorageEvent): void => {
      if (storageArea !== this.#area || key === null) return;
      this.#unsaved.delete(key);
      changed(key, newValue);
    };
    addEventListener("storage", heard, signal ? { signal } : {});
  }
}

/** What was kept as JSON; null where there is nothing that can be read. */
export function parsed<T>(text: string | null): T | null {
  try {
    return JSON.parse(text ?? "null") as T | null;
  } catch {
    return null;
  }
}
