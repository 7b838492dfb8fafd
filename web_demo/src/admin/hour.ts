// The last hour: six charts, what they add up to, and the same numbers as a table for whoever reads those better.

import { byId } from "../demo/dom.js";
import { binaryCeiling, Chart, type Line, type niceCeiling } from "./chart.js";
import { bytes, clock, count, rate, seconds } from "./format.js";
import { emptyRow, row } from "./parts.js";
import type { Slot, Spread } from "./types.js";

type Reading = (slot: Slot, slotSeconds: number) => number | null;

const P50: Line = { name: "P50", kind: "first" };
const P95: Line = { name: "P95", kind: "second" };
const COLUMNS = 9;

/** What each chart shows: its title, how it words a value, and of each line where its values come from. */
const CHARTS: [string, (value: number) => string, [Line, Reading][], typeof niceCeiling?][] = [
  [
    "Tokens per second",
    (value) => `${rate(value)}/s`,
    [[{ name: "Generated", kind: "first", area: true }, (slot, length) => slot.tokens / length]],
  ],
  [
    "Replies",
    count,
    [
      [{ name: "Running", kind: "first", area: true }, ({ running }) => running],
      [{ name: "Waiting", kind: "second" }, ({ waiting }) => waiting],
    ],
  ],
  ["Time to the first token", seconds, [[P50, ({ ttft }) => measured(ttft, "p50")], [P95, ({ ttft }) => measured(ttft, "p95")]]],
  ["Between two tokens", seconds, [[P50, ({ itl }) => measured(itl, "p50")], [P95, ({ itl }) => measured(itl, "p95")]]],
  [
    "KV cache",
    (value) => `${count(value)} tokens`,
    [[{ name: "Used", kind: "first", area: true }, (slot) => (slot.kv_cells ? slot.kv_used : null)]],
  ],
  ["Memory", bytes, [[{ name: "Server and engine", kind: "first", area: true }, (slot) => slot.memory_bytes || null]], binaryCeiling],
];

export class Hour {
  readonly #charts: [Chart, Reading[]][];
  readonly #table = byId<HTMLDetailsElement>("hour-table");
  #slots: Slot[] = [];
  #slotSeconds = 10;

  constructor() {
    this.#charts = CHARTS.map(([title, say, lines, ceiling]) => [
      new Chart(title, lines.map(([line]) => line), say, ceiling),
      lines.map(([, reading]) => reading),
    ]);
    byId("charts").replaceChildren(...this.#charts.map(([chart]) => chart.root));
    this.#table.addEventListener("toggle", () => this.#fillTable());
  }

  /** `slots`: those that are over, the oldest first. */
  show(slots: Slot[], slotSeconds: number): void {
    this.#slots = slots;
    this.#slotSeconds = slotSeconds;
    const times = slots.map(({ at }) => at);
    for (const [chart, readings] of this.#charts) {
      chart.show(times, readings.map((reading) => slots.map((slot) => reading(slot, slotSeconds))));
    }
    byId("hour-sums").textContent = sums(slots);
    this.#fillTable();
  }

  #fillTable(): void {
    if (!this.#table.open) return;
    const busy = this.#slots.filter(({ started, tokens, refused, failed, waiting }) => started + tokens + refused + failed + waiting);
    const rows = busy.toReversed().map((slot) =>
      row(
        clock(slot.at, true),
        count(slot.started),
        rate(slot.tokens / this.#slotSeconds),
        ...[slot.ttft, slot.itl].flatMap((spread) => [measured(spread, "p50"), measured(spread, "p95")]).map(orDash),
        count(slot.waiting),
        count(slot.kv_used),
      ),
    );
    byId("hour-rows").replaceChildren(...(rows.length ? rows : [emptyRow(COLUMNS, "Nothing happened in the last hour.")]));
  }
}

function measured(spread: Spread, which: "p50" | "p95"): number | null {
  return spread.count ? spread[which] : null;
}

function orDash(value: number | null): string {
  return value === null ? "–" : seconds(value);
}

function sums(slots: Slot[]): string {
  const sum = (of: (slot: Slot) => number): string => count(slots.reduce((all, slot) => all + of(slot), 0));
  return (
    `${sum(({ finished }) => finished)} replies finished, ${sum(({ cancelled }) => cancelled)} cancelled, ` +
    `${sum(({ failed }) => failed)} failed, ${sum(({ refused }) => refused)} refused; ` +
    `${sum(({ tokens }) => tokens)} tokens generated, ${sum((slot) => slot.prompt_tokens)} read.`
  );
}
