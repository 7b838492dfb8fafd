// Where the visitor writes: grows with the text, sends on Enter, and turns into a stop button while an answer comes.

import { direct, iconButton, isFocused, part } from "./dom.js";
import type { Words } from "./words.js";
import { DOUBLE_CLICK_MS, element } from "../text/element.js";

export class Composer {
  readonly root: HTMLFormElement;
  readonly #input: HTMLTextAreaElement;
  readonly #send: HTMLButtonElement;
  readonly #stop: HTMLButtonElement;
  #busy = false;
  #began = 0; // when the stop button came

  constructor(
    words: Words,
    private readonly send: (text: string) => void,
    stop: () => void,
  ) {
    this.#input = part("textarea", "input");
    this.#input.rows = 1;
    this.#input.placeholder = words.placeholder;
    this.#input.ariaLabel = words.message;
    this.#input.enterKeyHint = "send";
    this.#send = iconButton("send", "send", words.send, () => this.#submit());
    this.#send.setAttribute("part", "send");
    this.#stop = iconButton("send", "stop", words.stop, () => {
      if (performance.now() - this.#began > DOUBLE_CLICK_MS) stop();
    });
    this.#stop.setAttribute("part", "send");
    this.root = part("form", "composer", element("div", "box", this.#input, this.#send, this.#stop));
    this.#input.addEventListener("input", () => this.fit());
    this.#input.addEventListener("keydown", (event) => {
      // While a word is being composed (Japanese, Chinese, Korean …) Enter belongs to the input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    this.busy = false;
  }

  /** An answer comes: it can be stopped, and nothing sent. */
  set busy(value: boolean) {
    const focused = isFocused(this.#send) || isFocused(this.#stop);
    if (value && !this.#busy) this.#began = performance.now();
    this.#busy = value;
    this.#send.hidden = value;
    this.#stop.hidden = !value;
    if (focused) this.focus();
    this.fit();
  }

  /** A text that was not sent, in front of what was written since. */
  giveBack(text: string): void {
    this.text = [text, this.#input.value].filter(Boolean).join("\n\n");
  }

  set text(value: string) {
    this.#input.value = value;
    this.fit();
  }

  focus(): void {
    this.#input.focus({ preventScroll: true });
  }

  /** As high as the text, once it is on view. */
  fit(): void {
    this.#send.disabled = !this.#input.value.trim();
    direct(this.#input);
    this.#input.style.height = "auto";
    if (this.#input.scrollHeight) this.#input.style.height = `${this.#input.scrollHeight}px`;
  }

  #submit(): void {
    const text = this.#input.value.trim();
    if (!text || this.#busy) return;
    this.text = "";
    this.send(text);
  }
}
