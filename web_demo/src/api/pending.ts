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

/** What is needed of the browser's storage. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export class PendingTurns {
  /** `prefix` begins the records' names: on a page of somebody else's, other things are kept beside them. */
  constructor(
    private readonly storage: Store,
    private readonly prefix = PREFIX,
  ) {}

  get(conversation: string): Pending | null {
    return parsed(this.storage.getItem(this.prefix + conversation));
  }

  put(pending: Pending): void {
    try {
      this.storage.setItem(this.prefix + pending.conversation, JSON.stringify(pending));
    } catch {
      // Storage is full or forbidden: then a reload finds nothing, and everything else works.
    }
  }

  /** Forgets the record, unless another turn has taken its place. */
  remove(pending: Pending): void {
    if (this.get(pending.conversation)?.key === pending.key) this.storage.removeItem(this.prefix + pending.conversation);
  }

  /** Forgets the records of all other conversations: nobody comes back to them. */
  keepOnly(conversation: string): void {
    for (const name of Object.keys(this.storage)) {
      if (name.startsWith(this.prefix) && name !== this.prefix + conversation) this.storage.removeItem(name);
    }
  }

  /** Calls with the conversation whenever another tab begins or ends a turn, or gets on with it, until `signal` ends it. */
  watch(changed: (conversation: string, pending: Pending | null) => void, signal?: AbortSignal): void {
    const heard = (event: StorageEvent): void => {
      if (event.storageArea === this.storage && event.key?.startsWith(this.prefix)) {
        changed(event.key.slice(this.prefix.length), parsed(event.newValue));
      }
    };
    addEventListener("storage", heard, signal ? { signal } : {});
  }
}

/** Id of the item that a turn's answer becomes; "" until the server said the response's. */
export function answerOf(pending: Pending): string {
  return pending.response?.replace("resp_", "msg_") ?? "";
}

function parsed(text: string | null): Pending | null {
  try {
    return text === null ? null : (JSON.parse(text) as Pending);
  } catch {
    return null;
  }
}
