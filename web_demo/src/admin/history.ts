// The last hour, slot by slot, as far as this page or the server knows it. Pure.
//
// A server that was started anew has forgotten what was before; the page has not, so what it has read stays.

import type { Metrics, Slot } from "./types.js";

const HOUR = 3600; // seconds

export class History {
  #slots = new Map<number, Slot>();
  #now = 0; // the server's time when it was read last
  slotSeconds = 10;

  /** From when on the next reading is to tell; null: everything. The newest slot may have been unfinished. */
  get since(): number | null {
    const newest = Math.max(...this.#slots.keys());
    return Number.isFinite(newest) ? newest : null;
  }

  merge(metrics: Metrics): void {
    this.slotSeconds = metrics.slot_seconds;
    this.#now = metrics.now;
    for (const slot of metrics.data) {
      const known = this.#slots.get(slot.at);
      if (!known || slot.tokens >= known.tokens) this.#slots.set(slot.at, slot);
    }
    for (const at of this.#slots.keys()) if (at < this.#now - HOUR) this.#slots.delete(at);
  }

  /** Those that are over, the oldest first. */
  get finished(): Slot[] {
    const over = [...this.#slots.values()].filter((slot) => slot.at + this.slotSeconds <= this.#now);
    return over.sort((one, other) => one.at - other.at);
  }
}
