// The list of conversations: loads its pages, searches their titles, and on a phone slides in over the page.

import type { Conversations } from "../api/conversations.js";
import { titleOf } from "../api/conversations.js";
import type { Conversation } from "../api/types.js";
import { byId, onClick } from "./dom.js";
import { element } from "../text/element.js";

const DAY_MS = 86_400_000;

export class Sidebar {
  readonly #list = byId("list");
  readonly #search = byId<HTMLInputElement>("search");
  readonly #side = byId("side");
  readonly #shade = byId("shade");
  readonly #opener = byId<HTMLButtonElement>("side-open");
  readonly #main = byId("main");
  #known: Conversation[] = [];
  #after: string | null = null; // where the next page begins
  #current: string | null = null;
  #loading: Promise<void> | null = null; // the next page, which is on its way
  #changes = 0; // how often `put` or `drop` changed the list: a page that was asked for before knows nothing of it
  #drawn = ""; // of what the list on view was made

  constructor(
    private readonly conversations: Conversations,
    private readonly failed: (error: unknown) => void,
  ) {
    this.#search.addEventListener("input", () => void this.#searched());
    onClick("side-open", () => this.slide(true));
    onClick("side-close", () => this.slide(false));
    onClick("shade", () => this.slide(false));
    this.#side.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.#shade.hidden) this.slide(false);
    });
  }

  /** Reads the newest page again. */
  async refresh(): Promise<void> {
    const changes = this.#changes;
    try {
      const page = await this.conversations.list();
      if (changes !== this.#changes) return this.refresh();
      this.#known = page.data;
      this.#after = page.has_more ? page.last_id : null;
      await this.#searched();
    } catch (error) {
      this.failed(error);
    }
  }

  set current(id: string | null) {
    this.#current = id;
    this.#draw();
  }

  /** Puts a new or changed conversation into the list. */
  put(conversation: Conversation): void {
    this.#changes += 1;
    const at = this.#known.findIndex(({ id }) => id === conversation.id);
    if (at < 0) this.#known.unshift(conversation);
    else this.#known[at] = conversation;
    this.#draw();
  }

  drop(id: string): void {
    this.#changes += 1;
    this.#known = this.#known.filter((conversation) => conversation.id !== id);
    this.#draw();
  }

  /** On a narrow screen: over the page, which does not answer meanwhile. */
  slide(open: boolean): void {
    const wasOpen = !this.#shade.hidden;
    this.#side.classList.toggle("open", open);
    this.#shade.hidden = !open;
    this.#main.inert = open;
    this.#opener.ariaExpanded = String(open);
    if (open) this.#search.focus();
    else if (wasOpen) this.#opener.focus();
  }

  /** A search looks through everything, so everything has to be here. */
  async #searched(): Promise<void> {
    this.#draw();
    while (this.#search.value.trim() && this.#after) await this.#more();
  }

  /** Reads the next page. Whoever asks while it is on its way waits for the same one. */
  #more(): Promise<void> {
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load(): Promise<void> {
    const [after, changes] = [this.#after, this.#changes];
    if (!after) return;
    try {
      const page = await this.conversations.list(after);
      if (after !== this.#after) return; // the list was read again meanwhile
      if (changes !== this.#changes) return this.#load();
      const known = new Set(this.#known.map(({ id }) => id));
      this.#known.push(...page.data.filter(({ id }) => !known.has(id)));
      this.#after = page.has_more ? page.last_id : null;
    } catch (error) {
      if (after === this.#after) this.#after = null;
      this.failed(error);
    }
    this.#draw();
  }

  #draw(): void {
    const wanted = this.#search.value.trim().toLowerCase();
    const found = this.#known.filter((conversation) => titleOf(conversation).toLowerCase().includes(wanted));
    const more = this.#after !== null && !wanted;
    const drawn = JSON.stringify([found, wanted, more, this.#current, new Date().toDateString()]);
    if (drawn === this.#drawn) return; // a row that is being pressed must stay
    this.#drawn = drawn;
    const rows: HTMLElement[] = [];
    const atMore = document.activeElement === this.#list.querySelector("button");
    let group = "";
    for (const conversation of found) {
      const next = groupOf(conversation.created_at * 1000);
      if (next !== group) rows.push(element("li", "group", next));
      group = next;
      rows.push(this.#row(conversation));
    }
    if (!found.length && (wanted || !this.#known.length)) {
      rows.push(element("li", "group", wanted ? "Nothing found" : "No conversations yet"));
    }
    if (more) rows.push(element("li", "", this.#moreButton()));
    this.#list.replaceChildren(...rows);
    if (atMore) (this.#list.querySelector("button") ?? this.#search).focus();
  }

  #row(conversation: Conversation): HTMLElement {
    const link = element("a", "", titleOf(conversation));
    link.href = `#${conversation.id}`;
    link.title = titleOf(conversation);
    if (conversation.id === this.#current) link.ariaCurrent = "page";
    link.addEventListener("click", () => this.slide(false));
    return element("li", "", link);
  }

  #moreButton(): HTMLElement {
    const button = element("button", "plain", "Show more");
    button.type = "button";
    button.addEventListener("click", () => void this.#more());
    return button;
  }
}

function groupOf(time: number): string {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY_MS) return "Yesterday";
  return time >= midnight - 7 * DAY_MS ? "Last seven days" : "Earlier";
}
