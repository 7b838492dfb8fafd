// What can go wrong between a page and the server: it refuses, or it cannot be reached. Nothing else is thrown here.

/** The server answered, and the answer was no. `retryAfter` is in seconds. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }

  /** The same request is good again in a moment: the server starts, stops, or its database is away. */
  get passing(): boolean {
    return this.status === 503 || this.status === 502 || this.status === 504;
  }

  static async from(answer: globalThis.Response): Promise<ApiError> {
    const seconds = Number(answer.headers.get("retry-after"));
    const body = await answer.json().catch(() => null);
    const error = body?.error ?? {};
    return new ApiError(
      answer.status,
      error.code ?? "unknown",
      error.message ?? `the server answered ${answer.status}`,
      seconds > 0 ? seconds : null,
    );
  }
}

/** The connection could not be made, or broke. `sent`: the request was on its way, and the server may have heard it.
 * `late`: it was waited for in vain. */
export class ConnectionLost extends Error {
  constructor(
    readonly sent = true,
    readonly late = false,
  ) {
    super("the connection to the server broke");
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
