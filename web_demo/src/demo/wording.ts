// What the page says about a turn, in words. Pure.

import { ApiError, ConnectionLost } from "../api/errors.js";
import type { Turn } from "../api/turn.js";

const LEAST_MS = 250; // events come in batches: over less than this, a rate says only how they were packed

export function statusOf(turn: Turn): string {
  switch (turn.state) {
    case "sending":
      return "Sending…";
    case "waiting":
      if (turn.place === null) return "Waiting for the model…";
      return turn.place === 0 ? "Reading the prompt…" : `Waiting: number ${turn.place} in line`;
    case "reconnecting":
      return "The connection broke. Reconnecting…";
    case "incomplete":
      return "The answer reached its longest length.";
    case "cancelled":
      return "Stopped.";
    default:
      return "";
  }
}

/** Speed and size so far. A turn that was reloaded keeps its numbers. */
export function factsOf(turn: Turn, transport: string): string {
  const { began, first, tokens } = turn.pending;
  if (first === null) return "";
  const facts = [`First token ${((first - began) / 1000).toFixed(2)} s`];
  const speed = speedOf(turn);
  if (speed !== null) facts.push(`${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`);
  facts.push(tokens === 1 ? "1 token" : `${tokens.toLocaleString()} tokens`, transport);
  return facts.join(" · ");
}

/** Tokens a second from the first to the last one; null while there is too little between the two to tell. */
function speedOf({ latest, pending: { first, tokens } }: Turn): number | null {
  const took = first === null || latest === null ? 0 : latest - first;
  return tokens > 1 && took >= LEAST_MS ? (tokens - 1) / (took / 1000) : null;
}

export function reasonOf(error: unknown): string {
  if (error instanceof ConnectionLost) return "The server cannot be reached, so it is not known whether it heard you.";
  if (error instanceof ApiError) return sentence(error.message) + waitHint(error);
  return sentence(error instanceof Error ? error.message : String(error));
}

/** Why something could not be read: the server need not have heard anybody for that. */
export function whyUnread(error: unknown): string {
  return error instanceof ConnectionLost ? "The server cannot be reached." : reasonOf(error);
}

function waitHint(error: ApiError): string {
  return error.retryAfter === null ? "" : ` Try again in ${Math.ceil(error.retryAfter)} s.`;
}

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
