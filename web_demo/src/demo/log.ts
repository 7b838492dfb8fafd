// The list of messages, and where it is scrolled: at its end while it grows, unless the reader has gone up.

import type { Context, Item } from "../api/types.js";
import { textOf } from "../api/types.js";
import { byId } from "./dom.js";
import { Message, type MessageActions } from "./message.js";

const NEAR_PX = 48; // so far from the end still counts as being there

export class Log {
  readonly #root = byId("log");
  readonly #scroll = byId("scroll");
  readonly #jump = byId<HTMLButtonElement>("jump");
  readonly #empty = byId("empty");
  readonly #actions: MessageActions;
  #messages: Message[] = [];
  #following = true;
  #top = 0; // where it was scrolled last: only who goes up leaves the end, not a list that grows

  constructor(actions: Omit<MessageActions, "grew">) {
    this.#actions = { ...actions, grew: () => this.#follow() };
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#jump.addEventListener("click", () => this.toEnd());
    const sizes = new ResizeObserver(() => this.#follow());
    sizes.observe(this.#scroll);
    sizes.observe(this.#root);
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  get last(): Message | undefined {
    return this.#messages.at(-1);
  }

  clear(): void {
    this.#messages = [];
    this.#root.replaceChildren();
    this.#empty.hidden = true;
    this.#following = true;
    this.#jump.hidden = true;
  }

  /** Nothing was said yet. */
  showEmpty(): void {
    this.clear();
    this.#empty.hidden = false;
  }

  /** Items at the end, the oldest first. */
  append(items: readonly Item[]): void {
    for (const item of items) this.#insert(messageOf(item, this.#actions), null);
    this.toEnd();
  }

  /** Items in front of what is there, the oldest first. What is being read stays where it is. */
  prepend(items: readonly Item[]): void {
    const height = this.#scroll.scrollHeight;
    const first = this.#root.firstChild;
    const before = items.map((item) => messageOf(item, this.#actions));
    for (const message of before) this.#root.insertBefore(message.root, first);
    this.#messages.unshift(...before);
    this.#scroll.scrollTop += this.#scroll.scrollHeight - height;
    this.#markLastAnswer();
  }

  /** A new message at the end. */
  add(role: "user" | "assistant", text: string): Message {
    const message = new Message(role, this.#actions);
    message.show(text);
    this.#insert(message, null);
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
    const dropped = new Set(context.dropped);
    const summarised = new Set(context.summarised);
    for (const message of this.#messages) {
      const id = message.id ?? "";
      message.tag = summarised.has(id) ? "Summarised for the model" : dropped.has(id) ? "No longer sent to the model" : "";
    }
  }

  toEnd(): void {
    this.#following = true;
    this.#follow();
  }

  #insert(message: Message, before: Node | null): void {
    this.#empty.hidden = true;
    this.#root.insertBefore(message.root, before);
    this.#messages.push(message);
    this.#markLastAnswer();
  }

  /** Only the last answer can be given again. */
  #markLastAnswer(): void {
    for (const message of this.#messages) message.root.classList.toggle("last", message === this.last);
  }

  #follow(): void {
    if (this.#following) this.#scroll.scrollTop = this.#scroll.scrollHeight;
    else this.#scrolled();
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    const above = scrollHeight - clientHeight - scrollTop;
    const wentUp = scrollTop < this.#top;
    this.#top = scrollTop;
    this.#following = above < NEAR_PX || (this.#following && !wentUp);
    this.#jump.hidden = this.#following;
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
