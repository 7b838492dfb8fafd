// The ratings of the open conversation: read when it is opened, shown at its answers, sent when somebody gives one.
//
// A rating is shown at once, and taken back when the server did not take it. They are sent one after the other, so that
// the last press counts whatever is on its way.

import type { Feedback, FeedbackApi } from "../api/feedback.js";
import type { Log } from "./log.js";
import type { Message } from "./message.js";
import type { Shown } from "./rating.js";

/** What the ratings work with, and whom they tell. */
interface Surroundings {
  api: FeedbackApi;
  log: Log;
  announce(text: string): void;
  failed(error: unknown): void;
}

export class Ratings {
  #conversation: string | null = null;
  #known = new Map<string, Feedback>(); // by item
  #sent: Promise<void> = Promise.resolve();

  constructor(private readonly page: Surroundings) {}

  /** Another conversation is open now, or none that the server knows. */
  async open(conversation: string | null): Promise<void> {
    this.#conversation = conversation;
    this.#known = new Map();
    if (!conversation || !this.page.log.last) return; // nothing was said that could have been rated
    try {
      const found = await this.page.api.of(conversation);
      if (conversation !== this.#conversation) return;
      for (const feedback of found) if (!this.#known.has(feedback.item)) this.#known.set(feedback.item, feedback);
      this.mark();
    } catch (error) {
      this.page.failed(error);
    }
  }

  /** Shows what is known, also at messages that came onto the page later. */
  mark(): void {
    for (const message of this.page.log.messages) {
      const feedback = this.#known.get(message.id ?? "");
      if (feedback) message.rating = feedback;
    }
  }

  give(message: Message, wanted: Shown): void {
    const [conversation, item] = [this.#conversation, message.id];
    if (!conversation || !item) return;
    const before = this.#known.get(item) ?? null;
    this.#show(message, item, wanted);
    this.page.announce(said(before, wanted));
    this.#sent = this.#sent.then(() => this.#send(conversation, item, wanted)).catch((error) => {
      if (conversation === this.#conversation) this.#show(message, item, before);
      this.page.failed(error);
    });
  }

  async #send(conversation: string, item: string, wanted: Shown): Promise<void> {
    if (wanted) await this.page.api.give(conversation, { item, ...wanted });
    else await this.page.api.takeBack(conversation, item);
  }

  #show(message: Message, item: string, shown: Shown): void {
    if (shown) this.#known.set(item, { item, rating: shown.rating, comment: shown.comment });
    else this.#known.delete(item);
    message.rating = shown;
  }
}

function said(before: Shown, wanted: Shown): string {
  if (!wanted) return "Your rating is taken back";
  if (before?.rating === wanted.rating) return wanted.comment ? "Your comment is sent" : "Your comment is taken back";
  return `Rated as a ${wanted.rating === "up" ? "good" : "bad"} answer. There is a field for a comment below it.`;
}
