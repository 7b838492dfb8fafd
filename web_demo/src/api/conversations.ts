// The conversations that the server keeps: list, read, rename, fork, delete, export. Knows no turn and no page.

import type { Client } from "./client.js";
import type { Context, Conversation, Item, Page } from "./types.js";
import { textOf } from "./types.js";

const ROOT = "/v1/conversations";
const ITEMS_PER_REQUEST = 20; // the API's limit
const PAGE = 100;
const TITLE_LENGTH = 80;

export class Conversations {
  constructor(private readonly client: Client) {}

  create(metadata: Record<string, string>): Promise<Conversation> {
    return this.client.post(ROOT, { metadata });
  }

  get(id: string): Promise<Conversation> {
    return this.client.get(`${ROOT}/${id}`);
  }

  /** The newest first. `after` is the id behind which the page begins. */
  list(after = ""): Promise<Page<Conversation>> {
    return this.client.get(`${ROOT}?limit=${PAGE}${after && `&after=${after}`}`);
  }

  rename(conversation: Conversation, title: string): Promise<Conversation> {
    const metadata = { ...conversation.metadata, title: shortTitle(title) };
    return this.client.post(`${ROOT}/${conversation.id}`, { metadata });
  }

  delete(id: string): Promise<void> {
    return this.client.delete(`${ROOT}/${id}`);
  }

  /** A page of items, the newest first. */
  items(id: string, after = "", limit = PAGE): Promise<Page<Item>> {
    return this.client.get(`${ROOT}/${id}/items?limit=${limit}${after && `&after=${after}`}`);
  }

  deleteItem(id: string, item: string): Promise<void> {
    return this.client.delete(`${ROOT}/${id}/items/${item}`);
  }

  /** What the next turn would send to the model. */
  context(id: string): Promise<Context> {
    return this.client.get(`${ROOT}/${id}/context`);
  }

  /** A new conversation with everything that was said before `item`. */
  async forkBefore(source: Conversation, item: string): Promise<Conversation> {
    const items = await this.#before(source.id, item);
    const fork = await this.create({ ...source.metadata, forked_from: source.id });
    for (let at = 0; at < items.length; at += ITEMS_PER_REQUEST) {
      await this.client.post(`${ROOT}/${fork.id}/items`, { items: items.slice(at, at + ITEMS_PER_REQUEST) });
    }
    return fork;
  }

  async export(id: string, format: "json" | "markdown"): Promise<Blob> {
    const answer = await this.client.ask(`${ROOT}/${id}/export?format=${format}`);
    return answer.blob();
  }

  /** Messages before `item`, the oldest first, as the API takes them. */
  async #before(id: string, item: string): Promise<object[]> {
    const found: object[] = [];
    let after = item;
    for (;;) {
      const page = await this.items(id, after);
      for (const entry of page.data) {
        if (entry.type === "message") found.push({ type: "message", role: entry.role, content: textOf(entry) });
      }
      if (!page.has_more) return found.reverse();
      after = page.last_id;
    }
  }
}

/** The title of a conversation that begins with this text. */
export function shortTitle(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  const letters = [...line]; // whole ones: half an emoji is nothing that a server takes
  return letters.length <= TITLE_LENGTH ? line : `${letters.slice(0, TITLE_LENGTH - 1).join("").trimEnd()}…`;
}

export function titleOf(conversation: Conversation): string {
  return conversation.metadata["title"] || "Untitled conversation";
}
