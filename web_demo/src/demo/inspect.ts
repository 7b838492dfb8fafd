// The drawer with the events, each as it came. Costs nothing while it is closed but the memory of the last events.

import { byId, onClick } from "./dom.js";

const KEPT = 500;

export class Inspect {
  readonly #root = byId("inspect");
  readonly #log = byId("inspect-log");
  readonly #count = byId("inspect-count");
  #lines: string[] = [];
  #frame = 0;

  constructor() {
    onClick("inspect-open", () => this.show(true));
    onClick("inspect-close", () => this.show(false));
    this.#root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing) return;
      event.stopPropagation(); // outside it stops an answer
      this.show(false);
    });
    onClick("inspect-clear", () => {
      this.#lines = [];
      this.#draw();
    });
  }

  get open(): boolean {
    return !this.#root.hidden;
  }

  add(raw: string): void {
    this.#lines.push(raw);
    if (this.#lines.length > KEPT) this.#lines.shift();
    if (!this.#root.hidden) this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  show(open: boolean): void {
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
