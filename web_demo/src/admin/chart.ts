// A chart of the last hour: lines over time in an SVG of our own, and a cursor that reads them.
//
// The cursor is a slider that lies over the plot unseen: the pointer, a finger and the arrow keys move it, and a screen
// reader says what it stands at. The summary below says the same of the whole. Knows no endpoint.

import { clock } from "./format.js";
import { element } from "../text/element.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600;
const HEIGHT = 150;

/** One line. `kind` names its looks in charts.css; with `area` it is filled down to zero. */
export interface Line {
  name: string;
  kind: string;
  area?: boolean;
}

export class Chart {
  readonly root: HTMLElement;
  readonly #svg = document.createElementNS(SVG, "svg");
  readonly #cursor = element("input", "chart-cursor");
  readonly #mark = element("span", "chart-mark");
  readonly #time = element("span", "chart-time");
  readonly #top = element("span", "chart-top");
  readonly #from = element("span");
  readonly #summary = element("p", "hidden");
  readonly #readings: HTMLElement[];
  #times: number[] = [];
  #values: (number | null)[][] = [];
  #reading = false; // somebody has put the cursor somewhere

  /** `say` puts a value into words, its unit included; `ceiling` says where a scale ends that has to reach a value. */
  constructor(
    readonly title: string,
    private readonly lines: readonly Line[],
    private readonly say: (value: number) => string,
    private readonly ceiling = niceCeiling,
  ) {
    this.#svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute("preserveAspectRatio", "none");
    this.#svg.ariaHidden = "true";
    this.#readings = lines.map(() => element("b"));
    const legend = lines.map(({ name, kind }, at) =>
      element("span", "chart-key", element("i", `swatch ${kind}`), `${name} `, this.#readings[at] ?? ""),
    );
    this.#summary.id = `chart-${title.replace(/\W+/g, "-").toLowerCase()}`;
    this.#mark.hidden = true;
    this.#wireCursor();
    const plot = element("div", "chart-plot", this.#svg as unknown as HTMLElement, this.#top, this.#mark, this.#cursor);
    const feet = element("div", "chart-feet", this.#from, element("span", "", "now"));
    feet.ariaHidden = this.#top.ariaHidden = "true";
    const caption = element("figcaption", "", element("h3", "", title), element("p", "chart-legend", ...legend, this.#time));
    this.root = element("figure", "chart", caption, plot, feet, this.#summary);
  }

  /** `values` has a list for each line, with one value for each of the times, null where there is none. */
  show(times: number[], values: (number | null)[][]): void {
    const back = this.#times.length - Number(this.#cursor.value); // the cursor stays with the time that it was put at
    this.#times = times;
    this.#values = values;
    const top = this.ceiling(Math.max(0, ...values.flat().map((value) => value ?? 0)));
    this.#svg.replaceChildren(grid(), ...this.lines.flatMap((line, at) => drawn(line, values[at] ?? [], top)));
    this.#top.textContent = this.say(top);
    this.#from.textContent = times[0] === undefined ? "" : clock(times[0]);
    this.#summary.textContent = this.#summarised();
    this.#cursor.max = String(Math.max(0, times.length - 1));
    this.#cursor.value = String(this.#reading ? Math.max(0, times.length - back) : times.length);
    this.#read();
  }

  #wireCursor(): void {
    const cursor = this.#cursor;
    cursor.type = "range";
    cursor.min = cursor.max = "0";
    cursor.ariaLabel = this.title;
    cursor.setAttribute("aria-describedby", this.#summary.id);
    const follow = (): void => {
      this.#reading = true;
      this.#read();
    };
    const leave = (): void => {
      if (document.activeElement === cursor) return;
      this.#reading = false;
      cursor.value = cursor.max;
      this.#read();
    };
    cursor.addEventListener("input", follow);
    cursor.addEventListener("focus", follow);
    cursor.addEventListener("blur", leave);
    cursor.addEventListener("pointerleave", leave);
    cursor.addEventListener("pointermove", (event) => {
      const { left, width } = cursor.getBoundingClientRect();
      cursor.value = String(Math.round(((event.clientX - left) / width) * Number(cursor.max)));
      follow();
    });
  }

  /** Says what the lines are at the cursor, or are now. */
  #read(): void {
    const at = Number(this.#cursor.value);
    const time = this.#times[at];
    const said = this.#values.map((line) => this.#said(line[at]));
    this.#readings.forEach((reading, line) => (reading.textContent = said[line] ?? ""));
    this.#mark.hidden = !this.#reading || time === undefined;
    this.#mark.style.left = `${(100 * at) / Math.max(1, this.#times.length - 1)}%`;
    this.#time.textContent = this.#reading && time !== undefined ? `at ${clock(time, true)}` : "";
    const words = this.lines.map(({ name }, line) => `${name} ${said[line]}`).join(", ");
    this.#cursor.setAttribute("aria-valuetext", time === undefined ? "nothing yet" : `${clock(time, true)}: ${words}`);
  }

  #summarised(): string {
    const parts = this.lines.map(({ name }, line) => {
      const values = this.#values[line] ?? [];
      const highest = Math.max(...values.map((value) => value ?? Number.NEGATIVE_INFINITY));
      if (!Number.isFinite(highest)) return `${name}: nothing was measured`;
      const time = this.#times[values.indexOf(highest)] ?? 0;
      return `${name}: newest ${this.#said(values.at(-1))}, highest ${this.say(highest)} at ${clock(time)}`;
    });
    return `The last hour in steps of ten seconds. ${parts.join(". ")}.`;
  }

  #said(value: number | null | undefined): string {
    return value === null || value === undefined ? "–" : this.say(value);
  }
}

/** The smallest 1, 2 or 5 times a power of ten that is not below `value`; 1 for nothing. */
export function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/** The same for what is counted in powers of two. */
export function binaryCeiling(value: number): number {
  if (value <= 1) return 1;
  const power = 2 ** Math.floor(Math.log2(value));
  return [1, 1.5, 2].map((step) => step * power).find((step) => step >= value) ?? value;
}

function grid(): SVGElement {
  return path("chart-grid", `M0 ${HEIGHT}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 0H${WIDTH}`);
}

/** A line as paths: what lies together is joined, what stands alone is a dot. */
function drawn(line: Line, values: (number | null)[], top: number): SVGElement[] {
  const x = (at: number): number => round((at / Math.max(1, values.length - 1)) * WIDTH);
  const y = (value: number): number => round(HEIGHT - (value / top) * HEIGHT);
  let joined = "";
  let filled = "";
  let dots = "";
  for (const run of runsOf(values)) {
    const points = run.map(([at, value]) => `${x(at)} ${y(value)}`);
    const [first, last] = [x(run[0]?.[0] ?? 0), x(run.at(-1)?.[0] ?? 0)];
    if (points.length === 1) dots += `M${points[0]}h0`;
    else joined += `M${points.join("L")}`;
    if (points.length > 1) filled += `M${first} ${HEIGHT}L${points.join("L")}L${last} ${HEIGHT}Z`;
  }
  const paths = [path(`chart-line ${line.kind}`, joined), path(`chart-dots ${line.kind}`, dots)];
  return line.area ? [path(`chart-area ${line.kind}`, filled), ...paths] : paths;
}

/** The stretches without a gap, each as pairs of index and value. */
function runsOf(values: (number | null)[]): [number, number][][] {
  const runs: [number, number][][] = [];
  let run: [number, number][] = [];
  values.forEach((value, at) => {
    if (value === null) run = [];
    else if (run.push([at, value]) === 1) runs.push(run);
  });
  return runs;
}

function path(kind: string, data: string): SVGElement {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("class", kind);
  made.setAttribute("d", data);
  return made;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
