// The round button that opens and closes the panel, with the number of answers that nobody has seen.

import { icon, part } from "./dom.js";
import { fill, type Words } from "./words.js";
import { DOUBLE_CLICK_MS, element } from "../text/element.js";

const MOST = 9; // more are shown as "9+"

export class Launcher {
  readonly root = part("button", "launcher");
  readonly #badge = part("span", "badge");
  #unread = 0;
  #open = false;
  #clicked = -Infinity; // when

  constructor(
    private readonly words: Words,
    toggle: () => void,
  ) {
    this.root.type = "button";
    this.root.setAttribute("aria-haspopup", "dialog");
    this.root.setAttribute("aria-controls", "panel");
    this.root.append(element("span", "closed", icon("chat")), element("span", "opened", icon("chevron")), this.#badge);
    this.root.addEventListener("click", ({ timeStamp }) => {
      if (timeStamp - this.#clicked < DOUBLE_CLICK_MS) return;
      this.#clicked = timeStamp;
      toggle();
    });
    this.#show();
  }

  set open(value: boolean) {
    this.#open = value;
    this.#show();
  }

  get unread(): number {
    return this.#unread;
  }

  set unread(value: number) {
    this.#unread = value;
    this.#show();
  }

  /** How many answers are unread, in words; "" for none. */
  get news(): string {
    return this.#unread ? fill(this.words.unread, { count: this.#unread }) : "";
  }

  #show(): void {
    const name = this.#open ? this.words.close : this.words.open;
    this.root.ariaExpanded = String(this.#open);
    this.root.ariaLabel = this.news && !this.#open ? `${name} (${this.news})` : name;
    this.#badge.hidden = !this.#unread || this.#open;
    this.#badge.textContent = this.#unread > MOST ? `${MOST}+` : String(this.#unread);
  }
}
