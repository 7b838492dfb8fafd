// Where a message is written: grows with its text, sends on Enter, and turns into a stop button while an answer comes.

import { DOUBLE_CLICK_MS } from "../text/element.js";
import { byId } from "./dom.js";

export class Composer {
  readonly #form = byId<HTMLFormElement>("composer");
  readonly #input = byId<HTMLTextAreaElement>("input");
  readonly #send = byId<HTMLButtonElement>("send");
  readonly #stop = byId<HTMLButtonElement>("stop");
  readonly #editing = byId("editing");
  #busy = false;
  #began = 0; // when the stop button came

  constructor(
    private readonly send: (text: string) => void,
    stop: () => void,
    cancelEditing: () => void,
  ) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => this.#fit());
    this.#input.addEventListener("keydown", (event) => {
      // While a word is being composed (Japanese, Chinese, Korean …) Enter belongs to the input method.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", () => performance.now() - this.#began > DOUBLE_CLICK_MS && stop());
    byId("editing-cancel").addEventListener("click", () => {
      cancelEditing();
      this.focus(); // the button is gone
    });
    this.#fit();
  }

  get busy(): boolean {
    return this.#busy;
  }

  /** An answer comes: it can be stopped, and nothing sent. */
  set busy(value: boolean) {
    const focused = document.activeElement === this.#send || document.activeElement === this.#stop;
    if (value && !this.#busy) this.#began = performance.now();
    this.#busy = value;
    this.#send.hidden = value;
    this.#stop.hidden = !value;
    if (focused) this.focus();
    this.#fit();
  }

  /** Whether what is written replaces an earlier message. */
  set editing(value: boolean) {
    this.#editing.hidden = !value;
  }

  set text(value: string) {
    this.#input.value = value;
    this.#fit();
  }

  get text(): string {
    return this.#input.value;
  }

  /** A text that was not sent, in front of what was written since. */
  giveBack(text: string): void {
    this.text = [text, this.text].filter(Boolean).join("\n\n");
  }

  focus(): void {
    this.#input.focus();
  }

  #submit(): void {
    const text = this.#input.value.trim();
    if (!text || this.#busy) return;
    this.text = "";
    this.send(text);
  }

  #fit(): void {
    this.#send.disabled = !this.#input.value.trim();
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
