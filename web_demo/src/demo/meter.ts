// The context meter: how full the model's window is, and with what; and what the key's budget has left.

import type { Context } from "../api/types.js";
import { byId } from "./dom.js";
import { element } from "../text/element.js";

const PARTS: [string, string][] = [
  ["system", "Instructions"],
  ["pinned", "Pinned messages"],
  ["summary", "Summary"],
  ["history", "Earlier messages"],
  ["input", "Your message"],
  ["template", "Frame"],
];

/** Tokens that the tightest budget of the key had left when an answer last said so. */
interface Budget {
  left: number;
  limit: number;
}

export class Meter {
  #budget: Budget | null = null; // null where there is none, or no answer has said yet
  readonly #button = byId("meter");
  readonly #bar = byId("meter-bar");
  readonly #text = byId("meter-text");
  readonly #panel = byId("meter-panel");

  /** Reads the headers of an answer for what is left. */
  heard(headers: Headers): void {
    const left = headers.get("x-ratelimit-remaining-tokens");
    const limit = headers.get("x-ratelimit-limit-tokens");
    if (left !== null && limit !== null) this.#budget = { left: Number(left), limit: Number(limit) };
  }

  show(context: Context | null): void {
    this.#button.hidden = !context;
    if (!context) return;
    const { window, reserve, prompt_tokens: used } = context;
    this.#text.textContent = `${used.toLocaleString()} / ${window.toLocaleString()}`;
    this.#button.ariaLabel = `Context: ${this.#text.textContent} tokens`;
    this.#bar.replaceChildren(
      ...PARTS.flatMap(([name]) => segment(name, context.parts[name] ?? 0, window)),
      ...segment("reserve", Math.min(reserve, window - used), window),
    );
    this.#panel.replaceChildren(element("h2", "", "What the model sees, in tokens"), table(context), note(context));
    if (this.#budget) this.#panel.append(element("p", "note", budgetLine(this.#budget)));
  }
}

function budgetLine({ left, limit }: Budget): string {
  return `Budget: ${left.toLocaleString()} of ${limit.toLocaleString()} tokens are left.`;
}

function segment(name: string, tokens: number, window: number): HTMLElement[] {
  if (tokens <= 0) return [];
  const made = element("span", `part-${name}`);
  made.style.width = `${(100 * tokens) / window}%`;
  return [made];
}

function table(context: Context): HTMLElement {
  const rows = PARTS.filter(([name]) => context.parts[name]).map(([name, label]) =>
    row(label, context.parts[name] ?? 0, name),
  );
  const free = Math.max(0, context.window - context.prompt_tokens - context.reserve);
  rows.push(row("Kept free for the answer", context.reserve, "reserve"), row("Free", free, "free"));
  rows.push(row("Window", context.window, ""));
  const outside: HTMLElement[] = [];
  if (context.summarised.length) outside.push(row("Not sent: summarised", context.summarised_tokens, ""));
  if (context.dropped.length) outside.push(row("Not sent: left out", context.dropped_tokens, ""));
  return element("table", "", element("tbody", "", ...rows), element("tbody", "", ...outside));
}

function row(label: string, tokens: number, name: string): HTMLElement {
  const head = element("th", "", element("span", `dot part-${name}`), label);
  head.scope = "row";
  return element("tr", "", head, element("td", "", tokens.toLocaleString()));
}

function note(context: Context): HTMLElement {
  const { length } = context.kept;
  const facts = [length === 1 ? "1 message is sent" : `${length.toLocaleString()} messages are sent`];
  if (context.summarised.length) facts.push(`${context.summarised.length.toLocaleString()} summarised`);
  if (context.dropped.length) facts.push(`${context.dropped.length.toLocaleString()} left out`);
  if (context.cut) facts.push(`${context.cut.toLocaleString()} tokens cut out of the newest`);
  return element("p", "note", `${facts.join(", ")}.`);
}
