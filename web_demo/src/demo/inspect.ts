// The drawer with the raw events, as they came. Costs nothing while it is closed but the memory of the last events.

import type { StreamEvent } from "../api/types.js";
import { byId, onClick } from "./dom.js";

const KEPT = 500;

export class Inspect {
  readonly #root = byId("inspect");
  readonly #log = byId("inspect-log");
  readonly #count = byId("inspect-count");
  #lines: string[] = [];
  #frame = 0;

  constructor() {
    onClick("inspect-open", () => this.#open(true));
    onClick("inspect-close", () => this.#open(false));
    onClick("inspect-clear", () => {
      this.#lines = [];
      this.#draw();
    });
  }

  add(event: StreamEvent): void {
    this.#lines.push(JSON.stringify(event));
    if (this.#lines.length > KEPT) this.#lines.shift();
    if (!this.#root.hidden) this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #open(open: boolean): void {
    this.#root.hidden = !open;
    byId("menu").hidePopover();
    if (open) {
      this.#draw();
      byId("inspect-close").focus();
    } else byId("more").focus();
  }

  #draw(): void {
    this.#frame = 0;
    this.#count.textContent = String(this.#lines.length);
    this.#log.textContent = this.#lines.join("\n");
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
