// The contract between the chat and the page around it.

import type { Conversations } from "../api/conversations.js";
import type { PendingTurns } from "../api/pending.js";
import type { Transport, TransportName } from "../api/transport.js";
import type { Context, Conversation } from "../api/types.js";
import type { Announcer } from "../text/announcer.js";
import type { Composer } from "./composer.js";
import type { Log } from "./log.js";

/** What the chat works with, and whom it tells. */
export interface Surroundings {
  conversations: Conversations;
  transports: Record<TransportName, Transport>;
  pendings: PendingTurns;
  announcer: Announcer;
  log: Log;
  composer: Composer;
  /** Another conversation is open now; null: a new one, of which nothing was said yet. */
  opened(conversation: Conversation | null): void;
  /** A conversation is named in the address, but could not be read. */
  notOpened(id: string, error: unknown): void;
  /** A conversation came into being, or is spoken in again. */
  began(conversation: Conversation): void;
  /** What the model sees now; null where nothing is known. */
  context(context: Context | null): void;
  /** Whether there are messages before the oldest on the page. */
  earlier(more: boolean): void;
  /** An event, as it came. */
  event(raw: string): void;
  failed(error: unknown): void;
}
