// Turns that are not over, kept in the browser so that a reload, a crash or another tab goes on with them.
//
// One record a conversation, as one turn of a conversation runs at a time. A record is a snapshot: `text` is what the
// events up to number `last` said. Knows no network.

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

export class PendingTurns {
  constructor(private readonly storage: Storage) {}

  get(conversation: string): Pending | null {
    return parsed(this.storage.getItem(PREFIX + conversation));
  }

  put(pending: Pending): void {
    try {
      this.storage.setItem(PREFIX + pending.conversation, JSON.stringify(pending));
    } catch {
      // Storage is full or forbidden: then a reload finds nothing, and everything else works.
    }
  }

  /** Forgets the record, unless another turn has taken its place. */
  remove(pending: Pending): void {
    if (this.get(pending.conversation)?.key === pending.key) this.storage.removeItem(PREFIX + pending.conversation);
  }

  /** Calls with the conversation whenever another tab begins or ends a turn, or gets on with it. */
  watch(changed: (conversation: string, pending: Pending | null) => void): void {
    addEventListener("storage", (event) => {
      if (event.storageArea === this.storage && event.key?.startsWith(PREFIX)) {
        changed(event.key.slice(PREFIX.length), parsed(event.newValue));
      }
    });
  }
}

function parsed(text: string | null): Pending | null {
  try {
    return text === null ? null : (JSON.parse(text) as Pending);
  } catch {
    return null;
  }
}
