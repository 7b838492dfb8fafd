// The messages on view, with the greeting and the suggested questions where nothing was said yet.
//
// The log itself is not read aloud while it grows (`aria-live="off"`): whole sentences go to a region of their own.

import type { Item } from "../api/types.js";
import { textOf } from "../api/types.js";
import { Following } from "../text/following.js";
import { button, iconButton, isFocused, part } from "./dom.js";
import { Message, type Role } from "./message.js";
import type { Words } from "./words.js";
import { element } from "../text/element.js";

export interface Opening {
  greeting: string;
  questions: readonly string[];
}

export class Log {
  readonly scroll = element("div", "scroll");
  readonly jump: HTMLButtonElement;
  #messages: Message[] = [];
  readonly #list = part("div", "log");
  readonly #suggestions = element("div", "suggestions");
  readonly #earlier: HTMLButtonElement;
  readonly #end: Following;

  constructor(
    private readonly words: Words,
    private readonly ask: (question: string) => void,
    earlier: () => void,
  ) {
    this.#list.role = "log";
    this.#list.ariaLive = "off";
    this.#list.ariaLabel = words.messages;
    this.#earlier = button("plain earlier", earlier, words.earlier);
    this.#earlier.hidden = true;
    this.scroll.tabIndex = 0;
    this.scroll.role = "region";
    this.scroll.ariaLabel = words.messages;
    this.scroll.append(this.#earlier, this.#list, this.#suggestions);
    this.jump = iconButton("jump", "down", words.newest, () => {
      this.focus(); // the button goes
      this.#end.toEnd();
    });
    this.jump.hidden = true;
    this.#end = new Following(this.scroll, this.#list, this.jump);
  }

  /** The oldest first. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Id of the newest message that the server is known to keep; "" when there is none. */
  get newest(): string {
    return this.#messages.findLast(({ id }) => id !== "")?.id ?? "";
  }

  /** Whether the message with this id is the last on view. */
  endsWith(id: string | undefined): boolean {
    return id !== undefined && id === this.#messages.at(-1)?.id;
  }

  holds(id: string): boolean {
    return this.#messages.some((message) => message.id === id);
  }

  /** Id of the newest answer; "" when there is none. */
  get newestAnswer(): string {
    return this.#messages.findLast(({ role, id }) => role === "assistant" && id !== "")?.id ?? "";
  }

  /** How many answers there are behind the one with this id; all of them where it is not on view. */
  answersBehind(id: string): number {
    const answers = this.#messages.filter((message) => message.role === "assistant" && message.id !== "");
    return answers.length - 1 - answers.findIndex((answer) => answer.id === id);
  }

  clear(): void {
    this.#messages = [];
    this.#list.replaceChildren();
    this.#suggestions.replaceChildren();
    this.more = false;
    this.#end.toEnd();
  }

  /** Nothing was said yet: the greeting, and what might be asked. The greeting is no item of the conversation. */
  welcome({ greeting, questions }: Opening): void {
    this.clear();
    const message = new Message("assistant", this.words, () => undefined);
    message.show(greeting);
    message.settle();
    message.root.classList.add("greeting");
    this.#list.append(message.root);
    for (const question of questions) {
      const suggestion = button("suggestion", () => this.ask(question), question);
      suggestion.setAttribute("part", "suggestion");
      suggestion.dir = "auto";
      this.#suggestions.append(suggestion);
    }
  }

  /** A new message at the end. */
  add(role: Role, text: string): Message {
    if (!this.#messages.length) this.clear();
    const message = new Message(role, this.words, () => this.#end.follow());
    message.show(text);
    this.#messages.push(message);
    this.#list.append(message.root);
    this.#end.toEnd();
    return message;
  }

  /** Items at the end, the oldest first. What is no message of the two who talk is left out. */
  append(items: readonly Item[]): void {
    for (const message of items.flatMap((item) => this.#made(item))) {
      this.#messages.push(message);
      this.#list.append(message.root);
    }
    this.#end.toEnd();
  }

  /** Items in front of what is there, the oldest first. What is being read stays where it is. */
  prepend(items: readonly Item[]): void {
    const height = this.scroll.scrollHeight;
    const before = items.flatMap((item) => this.#made(item));
    this.#messages.unshift(...before);
    this.#list.prepend(...before.map(({ root }) => root));
    this.scroll.scrollTop += this.scroll.scrollHeight - height;
  }

  /** Whether the server has messages before the oldest on view. */
  set more(value: boolean) {
    if (!value && isFocused(this.#earlier)) this.focus();
    this.#earlier.hidden = !value;
  }

  /** To be read with the keyboard. */
  focus(): void {
    this.scroll.focus({ preventScroll: true });
  }

  toEnd(): void {
    this.#end.toEnd();
  }

  #made(item: Item): Message[] {
    if (item.type !== "message" || (item.role !== "user" && item.role !== "assistant")) return [];
    const message = new Message(item.role, this.words, () => this.#end.follow());
    message.id = item.id;
    message.show(textOf(item));
    message.settle();
    if (item.status === "incomplete") message.status = this.words.cutShort;
    return [message];
  }
}
