// The list of messages, and where it is scrolled: at its end while it grows, unless the reader has gone up.

import type { Context, Item } from "../api/types.js";
import { textOf } from "../api/types.js";
import { Following } from "../text/following.js";
import { element } from "../text/element.js";
import { byId } from "./dom.js";
import { Message, type MessageActions } from "./message.js";

export class Log {
  readonly #root = byId("log");
  readonly #scroll = byId("scroll");
  readonly #jump = byId<HTMLButtonElement>("jump");
  readonly #empty = byId("empty");
  readonly #actions: MessageActions;
  #messages: Message[] = [];
  #dropped = new Set<string>(); // ids of what the model no longer gets
  #summarised = new Set<string>();
  readonly #end = new Following(this.#scroll, this.#root, this.#jump);

  constructor(actions: Omit<MessageActions, "grew">) {
    this.#jump.addEventListener("click", () => this.focus());
    this.#actions = { ...actions, grew: () => this.#end.follow() };
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  get last(): Message | undefined {
    return this.#messages.at(-1);
  }

  /** Id of the newest message that the server is known to keep; null when there is none. */
  get newest(): string | null {
    return this.#messages.findLast(({ id }) => id !== null)?.id ?? null;
  }

  clear(): void {
    this.#keepFocus();
    this.#messages = [];
    this.#dropped = this.#summarised = new Set();
    this.#root.replaceChildren();
    this.#empty.hidden = true;
    this.#end.toEnd();
  }

  /** Nothing was said yet. */
  showEmpty(): void {
    this.clear();
    this.#empty.hidden = false;
  }

  /** What is here could not be read. */
  showFailed(reason: string, again: () => void): void {
    this.clear();
    const button = element("button", "plain", "Try again");
    button.type = "button";
    button.addEventListener("click", again, { once: true });
    this.#root.append(element("div", "failure", element("p", "error", reason), button));
  }

  /** Items at the end, the oldest first. */
  append(items: readonly Item[]): void {
    for (const item of items) this.#insert(messageOf(item, this.#actions));
    this.toEnd();
  }

  /** Makes a change above what is being read, which stays where it is. */
  keepPlace(change: () => void): void {
    const edge = this.#scroll.getBoundingClientRect().top;
    const anchor = this.#messages.find(({ root }) => root.getBoundingClientRect().bottom > edge)?.root;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    this.#scroll.scrollTop += (anchor?.getBoundingClientRect().top ?? 0) - before;
  }

  /** Items in front of what is there, the oldest first. */
  prepend(items: readonly Item[]): void {
    const first = this.#root.firstChild;
    const before = items.map((item) => messageOf(item, this.#actions));
    for (const message of before) this.#root.insertBefore(message.root, first);
    this.#messages.unshift(...before);
    for (const message of before) this.#tag(message);
    this.#markLastAnswer();
  }

  /** A new message at the end. */
  add(role: "user" | "assistant", text: string): Message {
    const message = new Message(role, this.#actions);
    message.show(text);
    this.#insert(message);
    this.toEnd();
    return message;
  }

  remove(message: Message): void {
    message.root.remove();
    this.#messages = this.#messages.filter((other) => other !== message);
    this.#markLastAnswer();
  }

  /** Says at each message whether the model still sees it. */
  markUnseen(context: Context): void {
    this.#dropped = new Set(context.dropped);
    this.#summarised = new Set(context.summarised);
    this.keepPlace(() => this.#messages.forEach((message) => this.#tag(message)));
  }

  /** To be read with the keyboard. */
  focus(): void {
    this.#scroll.focus({ preventScroll: true });
  }

  toEnd(): void {
    this.#end.toEnd();
  }

  /** Whoever is at a button that goes away stays where the messages are. */
  #keepFocus(): void {
    const at = document.activeElement;
    if (at !== this.#scroll && this.#scroll.contains(at)) this.focus();
  }

  #insert(message: Message): void {
    this.#empty.hidden = true;
    this.#root.append(message.root);
    this.#messages.push(message);
    this.#markLastAnswer();
  }

  #tag(message: Message): void {
    const id = message.id ?? "";
    const summarised = this.#summarised.has(id);
    message.tag = summarised ? "Summarised for the model" : this.#dropped.has(id) ? "No longer sent to the model" : "";
  }

  /** Only the last answer can be given again. */
  #markLastAnswer(): void {
    for (const message of this.#messages) message.root.classList.toggle("last", message === this.last);
  }
}

function messageOf(item: Item, actions: MessageActions): Message {
  const known = item.type === "message" && (item.role === "user" || item.role === "assistant");
  const message = new Message(known ? (item.role as "user" | "assistant") : "note", actions);
  message.id = item.id;
  message.show(known ? textOf(item) : `${kindOf(item)}: ${textOf(item)}`);
  message.settle();
  if (item.status === "incomplete") message.status = "This answer was cut short.";
  return message;
}

function kindOf(item: Item): string {
  if (item.type === "message") return item.role === "system" || item.role === "developer" ? "Instruction" : "Message";
  if (item.type === "compaction") return "Summary of what left the model's view";
  return item.type === "function_call" ? "Tool call" : "Tool result";
}
