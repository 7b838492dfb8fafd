// The public API's values as far as the browser uses them: conversations, items, responses and their events.
//
// Only shapes. Fields that a server may leave out are optional; what is not used here is not listed.

export interface Page<T> {
  data: T[];
  has_more: boolean;
  last_id: string;
}

export interface Conversation {
  id: string;
  created_at: number; // seconds since 1970, like every time here
  updated_at: number;
  metadata: Record<string, string>;
}

export interface TextPart {
  type: string;
  text: string;
}

export interface Item {
  id: string;
  type: "message" | "function_call" | "function_call_output" | "compaction";
  status?: "in_progress" | "completed" | "incomplete";
  role?: "user" | "assistant" | "system" | "developer";
  content?: TextPart[];
  name?: string;
  arguments?: string;
  output?: string;
  encrypted_content?: string;
}

/** What of the conversation the model was shown. Numbers are tokens, lists are ids; `prompt_tokens` is all `parts`. */
export interface Context {
  window: number;
  reserve: number;
  prompt_tokens: number;
  parts: Record<string, number>;
  kept: string[];
  dropped: string[];
  summarised: string[];
  dropped_tokens: number; // what the dropped ones would have taken
  summarised_tokens: number; // what the summary stands for
  cut: number;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  input_tokens_details: { cached_tokens: number };
}

export type Status = "queued" | "in_progress" | "completed" | "incomplete" | "cancelled" | "failed";

export interface Response {
  id: string;
  status: Status;
  model: string;
  output: Item[];
  usage: Usage | null;
  error: { code: string; message: string } | null;
  context: Context | null;
}

/** One event of a stream. Which of the optional fields are there depends on `type`. */
export interface StreamEvent {
  type: string;
  sequence_number: number;
  response?: Response;
  item?: Item;
  delta?: string;
  code?: string;
  message?: string;
  stream_id?: string;
}

/** Body of `POST /v1/responses`, and of `response.create`. Further fields of the API may be there. */
export interface TurnRequest {
  conversation?: string;
  input?: string;
  model?: string;
  instructions?: string;
  [field: string]: unknown;
}

export interface Model {
  id: string;
  context_window?: number;
}

export function textOf(item: Item): string {
  if (item.type === "compaction") return item.encrypted_content ?? "";
  if (item.type === "function_call") return `${item.name}(${item.arguments})`;
  if (item.type === "function_call_output") return item.output ?? "";
  return (item.content ?? []).map((part) => part.text).join("");
}
