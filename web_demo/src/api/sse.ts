// Server-sent events out of the body of a fetch: bytes in, events and comments out.
//
// `EventSource` cannot POST, cannot send a key and does not show comments, which say how long the line is.
// Knows the format alone, not what events mean.

import { LONGEST, listenFor } from "./silence.js";

export interface Frame {
  data: string; // empty for a frame that is only a comment
  comment: string;
}

/** The frames of a body. Ends with it, or when nothing comes any more, keep-alives included; a body that breaks off
 * throws what the stream throws. */
export async function* frames(body: ReadableStream<Uint8Array>): AsyncGenerator<Frame> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new FrameParser();
  const leave = (): void => void reader.cancel().catch(() => undefined);
  const silence = listenFor((beats) => beats >= LONGEST && leave()); // what is being read ends then
  try {
    for (;;) {
      const { done, value } = await reader.read();
      silence.heard();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    silence.end();
    leave();
  }
}

/** Lines to frames, as the HTML standard says. An unfinished frame at the end is dropped, as it says too. */
export class FrameParser {
  #rest = "";
  #data: string[] = [];

  *push(text: string): Generator<Frame> {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const frame = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (frame) yield frame;
    }
  }

  #line(line: string): Frame | null {
    if (line === "") {
      if (this.#data.length === 0) return null;
      const data = this.#data.join("\n");
      this.#data = [];
      return { data, comment: "" };
    }
    if (line.startsWith(":")) return { data: "", comment: line.slice(1).trim() };
    if (line.startsWith("data:")) this.#data.push(line.slice(line[5] === " " ? 6 : 5));
    return null;
  }
}
