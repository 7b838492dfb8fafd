// What went wrong, in words for the visitor: never the server's own, which are English and for developers. Pure.

import { ApiError, ConnectionLost } from "../api/errors.js";
import type { Turn } from "../api/turn.js";
import { fill, type Words } from "./words.js";

const BY_CODE: Record<string, keyof Words> = {
  origin_not_allowed: "notHere",
  origin_required: "notHere",
  identity_required: "signIn",
  invalid_identity: "signIn",
  server_overloaded: "busy",
  conversation_locked: "locked",
  context_length_exceeded: "tooLong",
};

/** `code` names it for the page's own scripts; `text` is for the visitor. */
export interface Reason {
  code: string;
  status: number | null;
  text: string;
}

export function reasonOf(error: unknown, words: Words): Reason {
  if (error instanceof ConnectionLost) {
    return { code: "unreachable", status: null, text: navigator.onLine ? words.unreachable : words.offline };
  }
  if (!(error instanceof ApiError)) return { code: "unexpected", status: null, text: words.failed };
  const { code, status } = error;
  return { code, status, text: words[BY_CODE[code] ?? byStatus(status)] };
}

function byStatus(status: number): keyof Words {
  if (status === 404) return "gone";
  if (status === 413) return "tooLong";
  if (status === 429) return "budget";
  if (status === 503) return "busy";
  return "failed";
}

/** What a turn is doing; "" when its text says enough. */
export function statusOf(turn: Turn, words: Words): string {
  switch (turn.state) {
    case "sending":
    case "waiting":
      return turn.place ? fill(words.inLine, { place: turn.place }) : words.thinking;
    case "reconnecting":
      return words.reconnecting;
    case "incomplete":
      return words.cutShort;
    case "cancelled":
      return words.stopped;
    default:
      return "";
  }
}
