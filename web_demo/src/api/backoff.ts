// How long to wait before knocking again: twice as long each time, up to a limit, and never at the same moment as all
// the other pages that the same restart cut off.

const FIRST_MS = 250;
const LONGEST_MS = 5_000;

export class Backoff {
  #next = FIRST_MS;

  reset(): void {
    this.#next = FIRST_MS;
  }

  /** Waits, at least `seconds` where the server said so. Shorter when the network comes back; ends at once on abort. */
  async wait(seconds: number | null, signal: AbortSignal): Promise<void> {
    const milliseconds = Math.max(this.#next * (0.5 + Math.random() / 2), (seconds ?? 0) * 1000);
    this.#next = Math.min(this.#next * 2, LONGEST_MS);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        removeEventListener("online", done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      addEventListener("online", done);
      signal.addEventListener("abort", done);
    });
  }
}
