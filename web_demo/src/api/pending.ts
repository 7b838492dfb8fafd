// Turns that are not over, kept in the browser so that a reload, a crash or another tab goes on with them.
//
// One record a conversation, as one turn of a conversation runs at a time. A record is a snapshot: `text` is what the
// events up to number `last` said. Knows no network.

import { parsed, type Store } from "./store.js";
import type { TransportName } from "./transport.js";
import type { TurnRequest } from "./types.js";

const PREFIX = "frontdesk.turn.";

export interface Pending {
  key: string; // names the request; see transport.ts
  transport: TransportName;
  conversation: string;
  request: TurnRequest;
  tail: string | null; // id of the conversation's newest item when it was asked
  response: string | null; // null until the server said its id
  last: number; // sequence_number of the last event; -1 before the first
  text: string;
  tokens: number;
  began: number; // milliseconds since 1970
  first: number | null; // when the first token came
  failed?: string; // why the turn failed: nobody has what was asked but this record
}

/** A message on view; it has an id once the server is known to keep it. */
interface Said {
  id: string | null;
  role: string;
  text: string;
}

export class PendingTurns {
  /** `prefix` begins the records' names: on a page of somebody else's, other things are kept beside them. */
  constructor(
    private readonly store: Store,
    private readonly prefix = PREFIX,
  ) {}

  get(conversation: string): Pending | null {
    return parsed(this.store.get(this.prefix + conversation));
  }

  put(pending: Pending): void {
    this.store.set(this.prefix + pending.conversation, JSON.stringify(pending));
  }

  /** Forgets the record, unless another turn has taken its place. */
  remove(pending: Pending): void {
    if (this.get(pending.conversation)?.key === pending.key) this.store.remove(this.prefix + pending.conversation);
  }

  /** Forgets the records of all other conversations: nobody comes back to them. */
  keepOnly(conversation: string): void {
    this.store.clear(this.prefix, this.prefix + conversation);
  }

  /** Calls with the conversation whenever another tab begins or ends a turn, or gets on with it, until `signal` ends it. */
  watch(changed: (conversation: string, pending: Pending | null) => void, signal?: AbortSignal): void {
    this.store.watch((name, value) => {
      if (name.startsWith(this.prefix)) changed(name.slice(this.prefix.length), parsed(value));
    }, signal);
  }
}

/** Whether the server has heard a turn, as these messages of its conversation tell, the oldest first: its answer is
 * there or, where nobody said its id, what was asked stands behind what was the newest then. */
export function wasHeard(pending: Pending, messages: readonly Said[]): boolean {
  const { request, response, tail } = pending;
  if (response) return messages.some(({ id }) => id === answerOf(pending));
  const kept = messages.filter(({ id }) => id);
  const behind = kept.slice(kept.findIndex(({ id }) => id === tail) + 1);
  if (request.input === undefined) return behind.length > 0;
  return behind.some(({ role, text }) => role === "user" && text === request.input);
}

/** Id of the item that a turn's answer becomes; "" until the server said the response's. */
export function answerOf(pending: Pending): string {
  return pending.response?.replace("resp_", "msg_") ?? "";
}
