// Notices a line that says nothing any more and was never closed: a router forgot it, or the network went.
//
// Counts beats and looks at no clock. A page that was asleep or held up finds one beat waiting for it and not the hours:
// what came meanwhile is heard before the line is given up.

const BEAT_MS = 1_000;
/** Beats without a word after which nobody is there: four of a server's keep-alives, as they are set by default. */
export const LONGEST = 20;

export interface Silence {
  heard(): void;
  end(): void;
}

/** Calls `beat` every second, until `end`, with the number of beats since something was `heard`. */
export function listenFor(beat: (beats: number) => void): Silence {
  let beats = 0;
  const timer = setInterval(() => beat(++beats), BEAT_MS);
  return { heard: () => (beats = 0), end: () => clearInterval(timer) };
}
