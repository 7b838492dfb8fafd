// What a screen reader is told. Never single tokens: whole sentences, a few at a time, in a live region of its own.

const SENTENCE_END = /[.!?:…。！？]["')\]]*\s|\n/g;
const PAUSE_MS = 1500;
const MARKS = /[*_`#>|]+/g;

export class Announcer {
  #said = 0; // characters of the growing text that were told
  #text = "";
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `region` is a visually hidden element with aria-live="polite". */
  constructor(private readonly region: HTMLElement) {}

  say(text: string): void {
    const line = document.createElement("p");
    line.textContent = text.replace(MARKS, "").trim();
    if (line.textContent) this.region.replaceChildren(line);
  }

  /** A new text begins to grow; `said` characters of it were told before. */
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
      this.#tell(lastEnd(this.#text));
    }, PAUSE_MS);
  }

  /** The text is over: the rest of it is told. */
  finish(text: string): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#text = text;
    this.#tell(text.length);
  }

  #tell(end: number): void {
    if (end <= this.#said) return;
    this.say(this.#text.slice(this.#said, end));
    this.#said = end;
  }
}

function lastEnd(text: string): number {
  let end = 0;
  for (const match of text.matchAll(SENTENCE_END)) end = match.index + match[0].length;
  return end;
}
