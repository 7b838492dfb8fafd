// What a screen reader is told. Never single tokens: whole sentences, a few at a time, in a live region of its own.

import { spoken } from "./markdown.js";

// What opens and closes bold text and code; the end of a sentence, which the number of a list's entry is not.
const MARK_OR_END = /(\*\*|```)|(?<=(?<!^ *\d+)[.!?:…。！？]["')\]*_]*)\s|\n/gm;
const PAUSE_MS = 1500;

export class Announcer {
  #said = 0; // characters of the growing text that were told
  #text = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `region` is a visually hidden element with aria-live="polite". */
  constructor(private readonly region: HTMLElement) {}

  say(text: string): void {
    const line = document.createElement("p");
    line.textContent = text.trim();
    if (line.textContent) this.region.replaceChildren(line);
  }

  /** A new text begins to grow, in markdown; `said` characters of it were told before. */
  begin(said = 0): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#said = said;
    this.#text = "";
  }

  /** The text so far. Its whole sentences are told, at most every second and a half. */
  grow(text: string): void {
    this.#text = text;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#tell(this.#said + lastEnd(this.#text.slice(this.#said)));
    }, PAUSE_MS);
  }

  /** The text is over: the rest of it is told, and the `end` that it came to. */
  finish(text: string, end: string): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#text = text;
    this.#tell(text.length, end);
  }

  #tell(upTo: number, end = ""): void {
    this.say(`${spoken(this.#text.slice(this.#said, upTo))}\n${end}`);
    this.#said = Math.max(this.#said, upTo);
  }
}

/** Where the last whole sentence ends, but for those in bold text or code that is not closed yet. */
function lastEnd(text: string): number {
  const open = new Set<string>();
  let end = 0;
  for (const { 0: found, 1: mark, index } of text.matchAll(MARK_OR_END)) {
    if (!mark && open.size === 0) end = index + found.length;
    else if (mark && !open.delete(mark)) open.add(mark);
  }
  return end;
}
