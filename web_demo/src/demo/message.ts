// One message on the page: what was said, and the few things that can be done with it. Knows no server.

import { copy, dressCode } from "../text/code.js";
import { GrowingText } from "../text/growing.js";
import { iconButton, iconOf } from "./dom.js";
import { RatingBar, type Shown } from "./rating.js";
import { element } from "../text/element.js";

export interface MessageActions {
  announce(text: string): void;
  failed(error: Error): void;
  /** The text was updated, so the page is longer now. */
  grew(): void;
  edit(message: Message): void;
  again(message: Message): void;
  rate(message: Message, wanted: Shown): void;
}

type Role = "user" | "assistant" | "note";

const COPIED_MS = 2000;
const NAMES: Record<Role, string> = { user: "You", assistant: "Answer", note: "Note" };

export class Message {
  readonly root: HTMLElement;
  #id: string | null = null;
  #text = "";
  readonly #growing: GrowingText;
  readonly #body = element("div", "body");
  readonly #tag = element("p", "tag");
  readonly #status = element("p", "status");
  readonly #facts = element("span", "facts");
  readonly #buttons = element("div", "actions");
  #forKept: HTMLElement[] = []; // buttons that mean the item, which the server has to keep for that
  readonly #rating: RatingBar | null;

  constructor(
    readonly role: Role,
    private readonly actions: MessageActions,
  ) {
    const who = element("h2", "hidden", NAMES[role]);
    const parts = [who, this.#tag, this.#body, this.#status, this.#buttons];
    this.#rating = role === "assistant" ? new RatingBar((wanted) => actions.rate(this, wanted)) : null;
    this.root = element("article", `message ${role}`, ...parts, ...(this.#rating ? [this.#rating.line] : []));
    this.#tag.hidden = this.#status.hidden = true;
    this.#growing = new GrowingText(this.#body, (block) => dressCode(block, actions.announce), actions.grew);
  }

  /** The item's id; null until the server keeps it. Only then it can be rated, edited or answered again. */
  get id(): string | null {
    return this.#id;
  }

  set id(id: string | null) {
    this.#id = id;
    this.#showButtons();
  }

  get text(): string {
    return this.#text;
  }

  /** What users wrote is shown as it is; a model's answer is markdown. */
  show(text: string): void {
    this.#text = text;
    if (this.role === "assistant") this.#growing.set(text);
    else this.#body.textContent = text;
  }

  /** Shows what `show` got at once, and offers what can be done with a whole message. */
  settle(): void {
    if (this.role === "assistant") this.#growing.flush();
    this.busy = false;
    this.#buttons.replaceChildren(...this.#possible(), this.#facts);
    this.#showButtons();
  }

  /** What somebody thinks of this answer. */
  set rating(shown: Shown) {
    this.#rating?.show(shown);
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

  /** Speed and size of an answer. */
  set facts(text: string) {
    this.#facts.textContent = text;
    if (!this.#facts.isConnected) this.#buttons.append(this.#facts);
  }

  /** What became of the message in the model's view; "" for nothing special. */
  set tag(text: string) {
    this.#tag.hidden = !text;
    this.#tag.textContent = text;
    this.root.classList.toggle("unseen", text !== "");
  }

  /** What went wrong, with a button to try again. */
  fail(reason: string, again: () => void): void {
    this.busy = false;
    const button = element("button", "plain", "Try again");
    button.type = "button";
    button.addEventListener("click", again, { once: true });
    this.#status.hidden = false;
    this.#status.replaceChildren(element("span", "error", reason), button);
  }

  #possible(): HTMLElement[] {
    if (this.role === "note") return [];
    const copying = iconButton("copy", "Copy", () => void this.#copy(copying));
    if (this.role === "assistant") {
      const again = iconButton("again", "Answer again", () => this.actions.again(this));
      this.#forKept = [again, ...(this.#rating?.buttons ?? [])];
    } else this.#forKept = [iconButton("edit", "Edit", () => this.actions.edit(this))];
    return [copying, ...this.#forKept];
  }

  #showButtons(): void {
    for (const button of this.#forKept) button.hidden = this.#id === null;
  }

  async #copy(button: HTMLButtonElement): Promise<void> {
    if (!(await copy(this.#text))) return this.actions.failed(new Error("the browser does not allow copying"));
    this.actions.announce("Copied");
    button.replaceChildren(iconOf("check"));
    button.title = "Copied";
    setTimeout(() => {
      button.replaceChildren(iconOf("copy"));
      button.title = "Copy";
    }, COPIED_MS);
  }
}
