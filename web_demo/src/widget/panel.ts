// The panel: a head, what was said, where to write, and the form for a person in their place. A dialog beside the page,
// not above it: focus is not kept inside, and the page stays usable. Knows what it looks like, not what anything means.

import { Composer } from "./composer.js";
import { button, icon, iconButton, isFocused, part } from "./dom.js";
import { HandoffForm, type Handoff } from "./handoff.js";
import { Log } from "./log.js";
import type { Words } from "./words.js";
import { element } from "../text/element.js";

/** What the visitor can do here. */
export interface Acts {
  close(): void;
  anew(): void;
  earlier(): void;
  send(text: string): void;
  stop(): void;
  person(contact: string, message: string): void;
}

export class Panel {
  readonly root: HTMLElement;
  readonly log: Log;
  readonly composer: Composer;
  readonly #form: HandoffForm;
  readonly #notice = part("div", "notice");
  readonly #request = element("div", "request");
  readonly #anew: HTMLButtonElement;
  readonly #person: HTMLButtonElement;
  readonly #talk: HTMLElement;
  #handoff: Handoff | null = null;

  constructor(
    private readonly words: Words,
    title: string,
    acts: Acts,
  ) {
    this.log = new Log(words, (question) => this.#ask(question, acts), acts.earlier);
    this.composer = new Composer(words, acts.send, acts.stop);
    this.#form = new HandoffForm(words, acts.person, () => this.#showForm(false));
    this.#anew = iconButton("ghost", "plus", words.anew, acts.anew);
    this.#person = button("plain", () => this.#showForm(true), icon("person"), words.person);
    const name = element("h2", "title", title);
    name.dir = "auto";
    const mark = element("span", "mark", icon("chat"));
    const head = part("div", "header", mark, name, this.#anew, iconButton("ghost", "close", words.close, acts.close));
    const foot = element("p", "foot", this.#person, element("span", "", words.madeByMachine));
    this.#notice.role = "alert";
    this.#notice.hidden = true;
    this.#request.hidden = true;
    this.started = false;
    this.#talk = element("div", "talk", this.log.scroll, this.log.jump, this.#request, this.composer.root, foot);
    this.root = part("section", "panel", head, this.#notice, this.#talk, this.#form.root);
    this.root.id = "panel";
    this.root.role = "dialog";
    this.root.ariaLabel = title;
    this.root.tabIndex = -1;
    this.root.hidden = true;
  }

  get open(): boolean {
    return !this.root.hidden;
  }

  set open(value: boolean) {
    this.root.hidden = !value;
    if (!value) return;
    this.composer.fit();
    this.log.toEnd();
  }

  /** Where typing goes on. Where a keyboard would cover half the screen, the panel itself. */
  focus(): void {
    if (!this.#form.root.hidden) this.#form.focus();
    else if (matchMedia("(hover: hover)").matches) this.composer.focus();
    else this.root.focus({ preventScroll: true });
  }

  /** What was written and not sent, field by field. */
  get draft(): string[] {
    return Array.from(this.#fields, ({ value }) => value);
  }

  set draft(texts: readonly string[]) {
    this.#fields.forEach((field, at) => (field.value = texts[at] ?? ""));
    this.composer.fit();
  }

  get #fields(): NodeListOf<HTMLInputElement | HTMLTextAreaElement> {
    return this.root.querySelectorAll("input, textarea");
  }

  /** Something was said: there is a conversation to begin anew. */
  set started(value: boolean) {
    this.#anew.hidden = !value;
  }

  /** What is wrong with all of it, and what to do about it; "" for nothing. */
  notice(text: string, again?: () => void): void {
    if (text && this.#notice.firstChild?.textContent === text) return; // it would be read aloud at every try
    const focused = isFocused(this.#notice);
    const retry = again ? [button("plain", again, this.words.again)] : [];
    this.#notice.replaceChildren(element("span", "", text), ...retry);
    this.#notice.hidden = !text;
    if (focused) (retry[0] ?? this).focus(); // its button went
  }

  /** The request for a person; null where there is none. */
  set handoff(handoff: Handoff | null) {
    this.#handoff = handoff;
    this.#request.hidden = handoff === null;
    this.#person.hidden = handoff?.state === "open";
    if (!handoff) return;
    const { words } = this;
    const open = handoff.state === "open";
    const line = element("span", "", open ? words.requested : words.requestDone);
    if (open && handoff.contact) line.append(element("bdi", "", handoff.contact));
    const change = open ? [button("plain", () => this.#showForm(true), words.change)] : [];
    this.#request.replaceChildren(icon("person"), line, ...change);
  }

  /** The form was sent: a refusal is shown in it, otherwise it goes. */
  formSent(refusal: string): void {
    this.#form.busy = false;
    this.#form.error = refusal;
    if (refusal) this.#form.focus();
    else this.#showForm(false);
  }

  /** Nothing stays of what was written and not sent. Takes the focus only from what goes. */
  forget(): void {
    const focused = isFocused(this.#form.root);
    this.composer.text = "";
    this.#form.clear();
    this.#talk.hidden = false;
    if (focused) this.focus();
  }

  /** A suggested question: its button goes, so focus must not go with it. */
  #ask(question: string, acts: Acts): void {
    this.focus();
    acts.send(question);
  }

  #showForm(shown: boolean): void {
    this.#talk.hidden = shown;
    if (shown) return this.#form.open(this.#handoff);
    this.#form.close();
    this.focus();
  }
}
