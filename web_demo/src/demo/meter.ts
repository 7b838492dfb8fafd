// The context meter: how full the model's window is, and with what; and what the key's budget has left.

import type { Budget } from "../api/client.js";
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

export class Meter {
  readonly #button = byId("meter");
  readonly #bar = byId("meter-bar");
  readonly #text = byId("meter-text");
  readonly #panel = byId("meter-panel");

  show(context: Context | null, budget: Budget | null): void {
    this.#button.hidden = !context;
    if (!context) return;
    const { window, reserve, prompt_tokens: used } = context;
    this.#text.textContent = `${used.toLocaleString()} / ${window.toLocaleString()}`;
    this.#button.ariaLabel = `Context: ${this.#text.textContent} tokens`;
    this.#bar.replaceChildren(
      ...PARTS.map(([name]) => segment(name, context.parts[name] ?? 0, window)),
      segment("reserve", Math.min(reserve, window - used), window),
    );
    this.#panel.replaceChildren(element("h2", "", "What the model sees"), table(context), note(context));
    if (budget) this.#panel.append(element("p", "note", budgetLine(budget)));
  }
}

function budgetLine({ left, limit }: Budget): string {
  return `Budget: ${left.toLocaleString()} of ${limit.toLocaleString()} tokens were left at your last message.`;
}

function segment(name: string, tokens: number, window: number): HTMLElement {
  const made = element("span", `part-${name}`);
  made.style.width = `${(100 * tokens) / window}%`;
  return made;
}

function table(context: Context): HTMLElement {
  const rows = PARTS.filter(([name]) => context.parts[name]).map(([name, label]) =>
    row(label, context.parts[name] ?? 0, name),
  );
  const free = Math.max(0, context.window - context.prompt_tokens - context.reserve);
  rows.push(row("Kept free for the answer", context.reserve, "reserve"), row("Free", free, "free"));
  return element("table", "", element("tbody", "", ...rows, row("Window", context.window, "")));
}

function row(label: string, tokens: number, name: string): HTMLElement {
  const head = element("th", "", element("span", `dot part-${name}`), label);
  head.scope = "row";
  return element("tr", "", head, element("td", "", tokens.toLocaleString()));
}

function note(context: Context): HTMLElement {
  const facts = [`${context.kept.length} messages are sent`];
  if (context.dropped.length) facts.push(`${context.dropped.length} left out`);
  if (context.summarised.length) facts.push(`${context.summarised.length} summarised`);
  if (context.cut) facts.push(`${context.cut} tokens cut out of the newest`);
  return element("p", "note", `${facts.join(", ")}. All counts are tokens.`);
}
