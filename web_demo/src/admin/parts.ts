// Small pieces that several sections are made of: bars, chips, facts, rows that are only redrawn when they changed.

import { count } from "./format.js";
import { element } from "../text/element.js";

/** How much of a limit is used, as a bar with its numbers. Above nine tenths it looks like a warning. */
export function bar(label: string, used: number, limit: number, say: (value: number) => string = count): HTMLElement {
  const share = limit > 0 ? Math.min(1, used / limit) : 1;
  const fill = element("span", share >= 0.9 ? "bar-fill full" : "bar-fill");
  fill.style.width = `${100 * share}%`;
  const track = element("span", "bar", fill);
  track.role = "meter";
  track.ariaLabel = label;
  track.ariaValueMin = "0";
  track.ariaValueMax = String(limit);
  track.ariaValueNow = String(Math.min(used, limit));
  track.ariaValueText = `${say(used)} of ${say(limit)}`;
  const words = element("span", "bar-words", element("span", "", label), element("span", "number", track.ariaValueText));
  return element("div", "bar-row", words, track);
}

/** A short word in a frame, such as a state. `kind`: "", "good", "bad". */
export function chip(text: string, kind = ""): HTMLElement {
  return element("span", `chip ${kind}`, text);
}

/** A line of small facts with a point between them. Empty ones are left out. */
export function facts(...said: (string | false | null | undefined)[]): HTMLElement {
  return element("p", "facts", said.filter(Boolean).join(" · "));
}

/** What a section says when it has nothing to show. */
export function nothing(text: string): HTMLElement {
  return element("li", "nothing", text);
}

/** Redraws `root` when `data` is not what it showed before: what is selected or focused in it stays. */
export class Rows<T> {
  #shown = "";

  constructor(
    private readonly root: HTMLElement,
    private readonly draw: (data: T) => HTMLElement[],
  ) {}

  show(data: T): void {
    const key = JSON.stringify(data);
    if (key === this.#shown) return;
    this.#shown = key;
    this.root.replaceChildren(...this.draw(data));
  }
}

/** A row of a table. The first cell is its head; numbers stand on the right. */
export function row(head: string | HTMLElement, ...cells: (string | HTMLElement)[]): HTMLElement {
  const first = element("th", "", head);
  first.scope = "row";
  return element("tr", "", first, ...cells.map((cell) => element("td", "", cell)));
}

export function emptyRow(columns: number, text: string): HTMLElement {
  const cell = element("td", "nothing", text);
  cell.colSpan = columns;
  return element("tr", "", cell);
}
