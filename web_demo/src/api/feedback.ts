// What somebody thinks of an answer: a thumb and perhaps a comment, kept beside the item. Knows no page.

import type { Client } from "./client.js";

export type Rating = "up" | "down";

export interface Feedback {
  item: string;
  rating: Rating;
  comment: string | null;
}

export const LONGEST_COMMENT = 2000; // characters, the API's limit

export class FeedbackApi {
  constructor(private readonly client: Client) {}

  /** All of a conversation. */
  async of(conversation: string): Promise<Feedback[]> {
    return (await this.client.get<{ data: Feedback[] }>(`/v1/conversations/${conversation}/feedback`)).data;
  }

  /** Takes the place of what was said about the item before. */
  async give(conversation: string, { item, rating, comment }: Feedback): Promise<void> {
    await this.client.post(address(conversation, item), { rating, comment });
  }

  async takeBack(conversation: string, item: string): Promise<void> {
    await this.client.delete(address(conversation, item));
  }
}

function address(conversation: string, item: string): string {
  return `/v1/conversations/${conversation}/items/${item}/feedback`;
}
