// Asking for a person: a short form, and a line that says what became of the request. Knows the one route that it is for.

import type { Client } from "../api/client.js";
import { button, direct, part } from "./dom.js";
import type { Words } from "./words.js";
import { element } from "../text/element.js";

const LONGEST_CONTACT = 200; // characters, the API's limits
const LONGEST_MESSAGE = 2000;

export interface Handoff {
  state: "open" | "done";
  contact: string | null;
  message: string | null;
}

/** The requests of a conversation; there is at most one. */
export class Handoffs {
  constructor(private readonly client: Client) {}

  get(conversation: string): Promise<Handoff> {
    return this.client.get(address(conversation));
  }

  /** Asks for a person, or changes what was asked while it is open. */
  ask(conversation: string, contact: string, message: string): Promise<Handoff> {
    const body = { ...(contact && { contact }), ...(message && { message }) };
    return this.client.post(address(conversation), body);
  }
}

function address(conversation: string): string {
  return `/v1/conversations/${conversation}/handoff`;
}

/** The form. `send` gets what was filled in; the form is closed by its user alone, or by whoever sent it. */
export class HandoffForm {
  readonly root: HTMLFormElement;
  readonly #contact = element("input");
  readonly #message = element("textarea");
  readonly #send: HTMLButtonElement;
  readonly #error = element("p", "error");

  constructor(words: Words, send: (contact: string, message: string) => void, cancel: () => void) {
    this.#contact.maxLength = LONGEST_CONTACT;
    this.#contact.placeholder = words.contactHint;
    this.#contact.required = true; // nobody can answer a request without it
    this.#message.maxLength = LONGEST_MESSAGE;
    this.#message.rows = 4;
    this.#error.role = "alert";
    this.#send = element("button", "primary", words.request);
    this.#send.type = "submit";
    this.root = part(
      "form",
      "handoff",
      element("h3", "", words.person),
      element("p", "", words.personIntro),
      element("label", "", words.contact, this.#contact),
      element("label", "", words.about, this.#message),
      this.#error,
      element("div", "buttons", button("plain", cancel, words.cancel), this.#send),
    );
    this.root.hidden = true;
    this.root.addEventListener("input", () => this.#direct());
    this.root.addEventListener("submit", (event) => {
      event.preventDefault();
      this.busy = true;
      send(this.#contact.value.trim(), this.#message.value.trim());
    });
  }

  open(handoff: Handoff | null): void {
    if (handoff) {
      this.#contact.value = handoff.contact ?? "";
      this.#message.value = handoff.message ?? "";
    }
    this.#direct();
    this.error = "";
    this.root.hidden = false;
    this.focus();
  }

  focus(): void {
    this.#contact.focus({ preventScroll: true });
  }

  close(): void {
    this.root.hidden = true;
  }

  /** Empties the form, also of what was sent and is not answered yet, and closes it. */
  clear(): void {
    this.root.reset();
    this.busy = false;
    this.close();
  }

  set busy(value: boolean) {
    this.#send.disabled = value;
  }

  set error(text: string) {
    this.#error.textContent = text;
  }

  #direct(): void {
    direct(this.#contact);
    direct(this.#message);
  }
}
