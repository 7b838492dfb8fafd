// What happens at this moment: a few large numbers, and every reply that waits or streams. No text of anybody.

import { byId } from "../demo/dom.js";
import { bytes, count, rate, seconds } from "./format.js";
import { bar, chip, emptyRow, row } from "./parts.js";
import type { LiveReply, Readiness, Slot } from "./types.js";
import { element } from "../text/element.js";

const COLUMNS = 8;
const PAYER = /^(?:key |visitor vis_)([0-9a-f]{12})(?:_([0-9a-f]{6}))?/;

export class Live {
  readonly #rows = byId("live-rows");
  readonly #kv = byId("tile-kv");

  /** `names` are those of the keys, by their ids. */
  show(readiness: Readiness, replies: LiveReply[], names: Record<string, string>): void {
    const counted = (state: LiveReply["state"]): number => replies.filter((reply) => reply.state === state).length;
    const reading = counted("prefill");
    tell("streaming", count(counted("streaming")), reading ? `${count(reading)} reading the prompt` : "replies");
    tell("waiting", count(counted("waiting")), "in line");
    tell("server", stateOf(readiness), `${count(readiness.open ?? 0)} open requests`);
    const { used, cells } = readiness.kv ?? { used: 0, cells: 0 };
    this.#kv.replaceChildren(
      ...(cells ? [bar("KV cache, tokens", used, cells)] : []),
      element("p", "note", `${count(readiness.restarts ?? 0)} engine restarts, ${count(readiness.preempted ?? 0)} preempted`),
    );
    const rows = replies.toSorted(byPlace).map((reply) => replyRow(reply, names));
    this.#rows.replaceChildren(...(rows.length ? rows : [emptyRow(COLUMNS, "Nobody is being answered.")]));
  }

  /** What the newest slot that is over says of speed and memory. */
  showSlot(slot: Slot | undefined, slotSeconds: number): void {
    if (!slot) return;
    tell("speed", rate(slot.tokens / slotSeconds), `tokens/s, last ${slotSeconds} s`);
    tell("memory", slot.memory_bytes ? bytes(slot.memory_bytes) : "–", "server and engine");
  }
}

function tell(tile: string, value: string, note: string): void {
  byId(`tile-${tile}`).textContent = value;
  byId(`tile-${tile}-note`).textContent = note;
}

function stateOf({ status, progress }: Readiness): string {
  if (status === "ready") return "Ready";
  const words = status.charAt(0).toUpperCase() + status.slice(1);
  return progress !== null && progress < 1 ? `${words} ${Math.floor(100 * progress)} %` : words;
}

/** Those that stream, then those whose prompt is read, then the line in its order. */
function byPlace(one: LiveReply, other: LiveReply): number {
  const order = { streaming: 0, prefill: 1, waiting: 2 };
  return order[one.state] - order[other.state] || (one.place ?? 0) - (other.place ?? 0) || other.age - one.age;
}

function replyRow(reply: LiveReply, names: Record<string, string>): HTMLElement {
  const writing = reply.ttft === null ? 0 : reply.age - reply.ttft;
  return row(
    stateChip(reply),
    payerOf(reply, names),
    reply.model,
    count(reply.prompt_tokens),
    count(reply.tokens),
    reply.tokens > 1 && writing > 0 ? rate((reply.tokens - 1) / writing) : "–",
    reply.ttft === null ? "–" : seconds(reply.ttft),
    seconds(reply.age),
  );
}

/** The key that pays, by its name; a visitor's id begins with that of the key that vouches for them. */
function payerOf({ payer }: LiveReply, names: Record<string, string>): string {
  const [, key = "", visitor] = PAYER.exec(payer) ?? [];
  const name = names[key] ?? "";
  if (!name) return payer;
  return visitor ? `${name}, visitor ${visitor}` : name;
}

function stateChip({ state, place }: LiveReply): HTMLElement {
  if (state === "streaming") return chip("Streaming", "good");
  if (state === "prefill") return chip("Reading");
  return chip(place ? `Waiting, no. ${place}` : "Waiting");
}
