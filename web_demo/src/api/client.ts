// One server: where it is, which key it wants, and one function that asks it something.
//
// Knows HTTP and JSON. Which addresses there are is for its users to know.

import { ApiError, ConnectionLost, isAbort } from "./errors.js";

// So long may an answer take to begin: longer than the server waits for a request's body or for its database, and a
// request first waits for one of the few connections that a browser opens.
const HEADERS_MS = 45_000;

export class Client {
  /** `base` is the server's address without a path. `key` is asked before each request: it may change. `heard` gets the
   * headers of every answer. */
  constructor(
    readonly base: string,
    readonly key: () => string | null = () => null,
    private readonly heard?: (headers: Headers) => void,
  ) {}

  /** The answer, whose status is good. Throws `ApiError`, or `ConnectionLost` also where none begins for 45 seconds; a
   * request taken back throws AbortError. */
  async ask(path: string, options: RequestInit = {}): Promise<Response> {
    const headers = new Headers(options.headers);
    this.#authorize(headers);
    if (options.body) headers.set("content-type", "application/json");
    const { signal } = options;
    const both = new AbortController(); // browsers of 2023 have no `AbortSignal.any`
    const stop = (): void => both.abort(signal?.reason);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      both.abort();
    }, HEADERS_MS);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop); // to the end of the body
    let answer: Response;
    try {
      answer = await fetch(this.base + path, { ...options, headers, signal: both.signal, cache: "no-store" });
    } catch (error) {
      signal?.removeEventListener("abort", stop);
      if (isAbort(error) && !late) throw error;
      throw new ConnectionLost(true, late);
    } finally {
      clearTimeout(timer);
    }
    this.heard?.(answer.headers);
    if (!answer.ok) throw await ApiError.from(answer);
    return answer;
  }

  async get<T>(path: string): Promise<T> {
    return this.#json<T>(path, {});
  }

  async post<T>(path: string, body: unknown): Promise<T> {
    return this.#json<T>(path, { method: "POST", body: JSON.stringify(body) });
  }

  async delete(path: string): Promise<void> {
    await this.ask(path, { method: "DELETE" });
  }

  #authorize(headers: Headers): void {
    const key = this.key();
    try {
      if (key) headers.set("authorization", `Bearer ${key}`);
    } catch {
      // No request can carry such characters: what the server would say of any other wrong key.
      throw new ApiError(401, "invalid_api_key", "the key has characters that no key has");
    }
  }

  async #json<T>(path: string, options: RequestInit): Promise<T> {
    const answer = await this.ask(path, options);
    try {
      return (await answer.json()) as T;
    } catch {
      throw new ConnectionLost(); // the body broke off
    }
  }
}
