// Who uses the server: its models, the keys with what is left of their budgets, the widgets, and the ledger's sums.

import type { Model } from "../api/types.js";
import { byId } from "../demo/dom.js";
import { count, moment } from "./format.js";
import { bar, chip, emptyRow, facts, nothing, row, Rows } from "./parts.js";
import type { KeyEntry, UsageRow, Widget } from "./types.js";
import { element } from "../text/element.js";

const BUDGETS = [
  ["Tokens this minute", "tokens_per_minute", "minute"],
  ["Tokens today", "tokens_per_day", "day"],
  ["Tokens in all", "tokens_total", "total"],
] as const;

export const models = new Rows<Model[]>(byId("model-rows"), (served) => {
  const rows = served.map(({ id, context_window: window }) => row(id, window ? count(window) : "still loading"));
  return rows.length ? rows : [emptyRow(2, "No model is served.")];
});

export const keys = new Rows<KeyEntry[]>(byId("key-rows"), (known) => {
  const order = known.toSorted((one, other) => Number(other.state === "active") - Number(one.state === "active"));
  return order.length ? order.map(keyEntry) : [nothing("There are no keys: `frontdesk keys create NAME` makes one.")];
});

export const widgets = new Rows<Widget[]>(byId("widget-rows"), (known) =>
  known.length ? known.map(widgetEntry) : [nothing("There are no widgets: `frontdesk widgets create NAME --origin …` makes one.")],
);

/** By which word the sums are grouped stands in front of each row. */
export const usage = new Rows<{ by: "day" | "model" | "key"; rows: UsageRow[]; names: Record<string, string> }>(
  byId("usage-rows"),
  ({ by, rows, names }) => {
    byId("usage-head").textContent = by.charAt(0).toUpperCase() + by.slice(1);
    if (!rows.length) return [emptyRow(4, "Nothing was used.")];
    return rows.map((entry) => {
      const group = entry[by];
      const name = by === "key" ? (names[group ?? ""] ?? group ?? "without a key") : (group ?? "–");
      return row(name, count(entry.requests), count(entry.prompt_tokens), count(entry.completion_tokens));
    });
  },
);

function keyEntry(key: KeyEntry): HTMLElement {
  const { limits, used } = key;
  const bars = BUDGETS.flatMap(([label, limit, spent]) => {
    const most = limits[limit];
    return most === null || most === undefined ? [] : [bar(label, used[spent], most)];
  });
  const requests = limits.requests_per_minute;
  const head = element("div", "entry-head", element("h3", "", key.name), stateChip(key.state), code(key.id));
  return element(
    "li",
    "entry",
    head,
    ...(bars.length ? [element("div", "bars", ...bars)] : []),
    facts(
      !bars.length && `${count(used.total)} tokens used, ${count(used.day)} of them today; no limit`,
      typeof requests === "number" && `at most ${count(requests)} requests a minute`,
      `may: ${key.scopes.toSorted().join(", ")}`,
      key.last_used_at === null ? "never used" : `last used ${moment(key.last_used_at)}`,
      key.expires_at !== null && `expires ${moment(key.expires_at)}`,
    ),
  );
}

function widgetEntry(widget: Widget): HTMLElement {
  const head = element("div", "entry-head", element("h3", "", widget.name), stateChip(widget.state), code(widget.id));
  const persona = widget.persona ? `persona ${widget.persona}` : "the model's own persona";
  return element("li", "entry", head, facts(widget.origins.join(", "), persona));
}

function stateChip(state: string): HTMLElement {
  return chip(state.charAt(0).toUpperCase() + state.slice(1), state === "active" ? "good" : "bad");
}

function code(id: string): HTMLElement {
  return element("code", "", id);
}
