// What the operator's endpoints answer, as far as the page uses it. Times are seconds since 1970, lengths of time seconds.

export interface Readiness {
  status: string;
  progress: number | null;
  open?: number;
  running?: number;
  waiting?: number;
  restarts?: number;
  preempted?: number;
  kv?: { used: number; cells: number };
}

/** The middle and the slow end of what was measured; with a `count` of 0 they mean nothing. */
export interface Spread {
  count: number;
  p50: number;
  p95: number;
}

/** What happened in the ten seconds from `at` on; the last five fields are what was seen in them at most. */
export interface Slot {
  at: number;
  started: number;
  finished: number;
  cancelled: number;
  failed: number;
  refused: number;
  prompt_tokens: number;
  tokens: number;
  ttft: Spread;
  itl: Spread;
  running: number;
  waiting: number;
  kv_used: number;
  kv_cells: number;
  memory_bytes: number;
}

export interface Metrics {
  slot_seconds: number;
  now: number;
  data: Slot[];
}

export interface LiveReply {
  id: string;
  state: "waiting" | "prefill" | "streaming";
  place: number | null;
  model: string;
  prompt_tokens: number;
  tokens: number;
  age: number;
  ttft: number | null;
  payer: string;
}

/** A request that was refused, or a reply that failed. */
export interface Trouble {
  at: number;
  request_id: string | null;
  method: string | null;
  path: string | null;
  status: number | null;
  code: string | null;
  message: string;
}

export interface KeyEntry {
  id: string;
  name: string;
  state: string;
  scopes: string[];
  limits: Partial<Record<"tokens_per_minute" | "tokens_per_day" | "tokens_total" | "requests_per_minute", number | null>>;
  used: { minute: number; day: number; total: number };
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
}

export interface Widget {
  id: string;
  name: string;
  origins: string[];
  persona: string | null;
  state: string;
}

export interface UsageRow {
  key?: string | null;
  model?: string;
  day?: string;
  requests: number;
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export type Rating = "up" | "down";

/** A rated answer, with what was asked. */
export interface Rated {
  id: string;
  conversation: string;
  item: string;
  rating: Rating;
  comment: string | null;
  created_at: number;
  question: string | null;
  answer: string;
  model: string | null;
}

export interface Handoff {
  id: string;
  conversation: string;
  state: "open" | "done";
  created_at: number;
  contact: string | null;
  message: string | null;
}

export interface Listed<T> {
  data: T[];
  has_more?: boolean;
  last_id?: string | null;
}
