// What the person in front of this browser chose: model, instructions, sampling, transport, key. Kept in the browser.

import { parsed, Store } from "../api/store.js";
import type { TransportName } from "../api/transport.js";
import type { TurnRequest } from "../api/types.js";

const CHOICES = "frontdesk.settings";
const TRANSPORT = "frontdesk.transport";
const KEY = "frontdesk.key";
export const NUMBERS = ["temperature", "top_p", "max_output_tokens", "seed"] as const;

/** For whoever opens this page in this browser. */
export const browser = new Store(() => localStorage);
/** For this tab only. */
export const tab = new Store(() => sessionStorage);

/** As the form has it: texts, empty where nothing was chosen. */
export type Choices = Partial<Record<(typeof NUMBERS)[number] | "model" | "instructions" | "extra", string>>;

export function choices(): Choices {
  return parsed<Choices>(browser.get(CHOICES)) ?? {};
}

export function choose(chosen: Choices): void {
  browser.set(CHOICES, JSON.stringify(chosen));
}

/** The fields of a request that the choices fill. Throws `SyntaxError` when the further fields are no JSON object. */
export function requestFields(chosen: Choices): TurnRequest {
  const fields: TurnRequest = parsedExtra(chosen.extra ?? "");
  if (chosen.model) fields.model = chosen.model;
  if (chosen.instructions?.trim()) fields.instructions = chosen.instructions;
  for (const name of NUMBERS) if (chosen[name]) fields[name] = Number(chosen[name]);
  return fields;
}

function parsedExtra(text: string): TurnRequest {
  if (!text.trim()) return {};
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw new SyntaxError("no JSON object");
  return parsed as TurnRequest;
}

export function transport(): TransportName {
  return browser.get(TRANSPORT) === "websocket" ? "websocket" : "sse";
}

export function chooseTransport(name: TransportName): void {
  browser.set(TRANSPORT, name);
}

/** The server's key, for servers that want one. For this tab only, so that it does not lie about. */
export function key(): string | null {
  return tab.get(KEY);
}

/** Whether it outlives a reload. */
export function chooseKey(value: string): boolean {
  return tab.set(KEY, value);
}
