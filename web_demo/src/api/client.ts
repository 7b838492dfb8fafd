// One server: where it is, which key it wants, and one function that asks it something.
//
// Knows HTTP and JSON. Which addresses there are is for its users to know.

import { ApiError, ConnectionLost, isAbort } from "./errors.js";

const HEADERS_MS = 20_000; // so long may an answer take to begin: streams begin at once, and nothing else takes long

export class Client {
  /** `base` is the server's address without a path. `key` is asked before each request: it may change. `heard` gets the
   * headers of every answer. */
  constructor(
    readonly base: string,
    readonly key: () => string | null = () => null,
    private readonly heard?: (headers: Headers) => void,
  ) {}

  /** The answer, whose status is good. Throws `ApiError`, or `ConnectionLost` also where none begins for 20 seconds; a
   * request taken back throws AbortError. */
  async ask(path: string, options: RequestInit = {}): Promise<Response> {
    const headers = new Headers(options.headers);
    this.#authorize(headers);
    if (options.body) headers.set("content-type", "application/json");
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), HEADERS_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, late.signal]) : late.signal;
    let answer: Response;
    try {
      answer = await fetch(this.base + path, { ...options, headers, signal, cache: "no-store" });
    } catch (error) {
      if (isAbort(error) && !late.signal.aborted) throw error;
      throw new ConnectionLost(true, late.signal.aborted);
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
