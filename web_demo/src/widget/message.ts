// One message in the widget: what was said, what became of it. Knows no server.

import { GrowingText } from "../text/growing.js";
import { button } from "./dom.js";
import type { Words } from "./words.js";
import { element } from "../text/element.js";

export type Role = "user" | "assistant";

export class Message {
  readonly root: HTMLElement;
  /** The item's id; "" until the server keeps it. */
  id = "";
  #text = "";
  readonly #body = element("div", "body");
  readonly #status = element("p", "status");
  readonly #growing: GrowingText;

  /** `grew` is called when the text was drawn, so the log is longer now. */
  constructor(
    readonly role: Role,
    private readonly words: Words,
    grew: () => void,
  ) {
    const who = element("h3", "unseen", role === "user" ? words.you : words.answer);
    this.root = element("article", `message ${role}`, who, this.#body, this.#status);
    this.root.setAttribute("part", `message message-${role}`);
    this.#body.dir = "auto";
    this.#status.hidden = true;
    this.#growing = new GrowingText(this.#body, reachable, grew);
  }

  get text(): string {
    return this.#text;
  }

  /** What visitors wrote is shown as it is; a model's answer is markdown. */
  show(text: string): void {
    this.#text = text;
    if (this.role === "assistant") this.#growing.set(text);
    else this.#body.textContent = text;
  }

  /** Shows what `show` got at once. */
  settle(): void {
    if (this.role === "assistant") this.#growing.flush();
    this.busy = false;
  }

  set busy(value: boolean) {
    this.root.ariaBusy = String(value);
    this.root.classList.toggle("growing", value);
  }

  /** A line below the text, such as what is being waited for; "" for none. */
  set status(text: string) {
    this.#status.hidden = !text;
    this.#status.textContent = text;
  }

  /** What went wrong, with a button to try again. */
  fail(reason: string, again: () => void): void {
    this.busy = false;
    this.#status.hidden = false;
    this.#status.replaceChildren(element("span", "error", reason), button("plain", again, this.words.again));
  }
}

/** What may be wider than the panel can be scrolled with the keyboard. */
function reachable(block: HTMLElement): void {
  for (const wide of block.querySelectorAll<HTMLElement>("pre, table")) wide.tabIndex = 0;
}
