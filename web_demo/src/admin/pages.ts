// A list that comes in pages, the newest first: the first page is read again and again, further ones when they are asked
// for. What was read of further pages stays while the first is renewed.

import type { Listed } from "./types.js";

export class Pages<T> {
  #entries: T[] = [];
  #after: string | null = null; // behind which the next page begins; null: there is none
  #visit = 0; // counts what was begun anew, so that a slow answer cannot mix two lists

  constructor(
    private readonly id: (entry: T) => string,
    private readonly read: (after: string) => Promise<Listed<T>>,
    private readonly draw: (entries: T[], more: boolean) => void,
  ) {}

  /** Something else is listed from now on. */
  clear(): void {
    this.#visit += 1;
    this.#entries = [];
    this.#after = null;
  }

  /** This entry is in the list no more. */
  drop(id: string): void {
    this.#entries = this.#entries.filter((entry) => this.id(entry) !== id);
  }

  /** Reads the first page again. */
  async refresh(): Promise<void> {
    const visit = this.#visit;
    const page = await this.read("");
    if (visit !== this.#visit) return;
    const fresh = new Set(page.data.map(this.id));
    const at = this.#entries.findIndex((entry) => this.id(entry) === page.last_id);
    const further = at < 0 ? [] : this.#entries.slice(at + 1).filter((entry) => !fresh.has(this.id(entry)));
    if (!further.length) this.#after = page.has_more ? (page.last_id ?? null) : null;
    this.#entries = [...page.data, ...further];
    this.draw(this.#entries, this.#after !== null);
  }

  /** Reads the next page, if there is one. */
  async more(): Promise<void> {
    const [visit, after] = [this.#visit, this.#after];
    if (after === null) return;
    const page = await this.read(after);
    if (visit !== this.#visit || after !== this.#after) return;
    this.#after = page.has_more ? (page.last_id ?? null) : null;
    this.#entries.push(...page.data);
    this.draw(this.#entries, this.#after !== null);
  }
}
