// The operator's page: makes its sections, and reads for each of them what it shows.

import { Client } from "../api/client.js";
import type { ApiError } from "../api/errors.js";
import { ask, wireCancelButtons } from "../demo/ask.js";
import { byId, onClick } from "../demo/dom.js";
import { tab } from "../demo/preferences.js";
import { switchTheme } from "../demo/theme_switch.js";
import { reasonOf } from "../demo/wording.js";
import { keys, models, usage, widgets } from "./accounts.js";
import { OperatorApi } from "./api.js";
import { errors } from "./errors.js";
import { Feedback } from "./feedback.js";
import { clock } from "./format.js";
import { Handoffs } from "./handoffs.js";
import { History } from "./history.js";
import { Hour } from "./hour.js";
import { Live } from "./live.js";
import { type LinkState, Watch } from "./watch.js";

const KEY = "frontdesk.admin-key";
const ERRORS = 50;
const USAGE_DAYS = 14;

const api = new OperatorApi(new Client(location.origin, () => tab.get(KEY)));
const live = new Live();
const hour = new Hour();
const history = new History();
const feedback = new Feedback(api, () => watch.soon("feedback"), (error) => problem("feedback", error));
const handoffs = new Handoffs(api, () => watch.soon("handoffs"), (error) => problem("handoffs", error));
const usageBy = byId<HTMLSelectElement>("usage-by");
let lostAt: number | null = null; // when the server was heard last, while it is away; hiding the tab does not change it
let names: Record<string, string> = {}; // of keys, by their ids

const watch = new Watch(
  [
    { section: "now", every: 2_000, read: readNow },
    { section: "hour", every: 10_000, read: readHour },
    { section: "handoffs", every: 10_000, read: () => handoffs.refresh() },
    { section: "errors", every: 10_000, read: async () => errors.show((await api.errors(ERRORS)).data) },
    { section: "feedback", every: 20_000, read: () => feedback.refresh() },
    { section: "keys", every: 30_000, read: readKeys },
    { section: "widgets", every: 30_000, read: async () => widgets.show((await api.widgets()).data) },
    { section: "models", every: 30_000, read: async () => models.show((await api.models()).data) },
    { section: "usage", every: 30_000, read: readUsage },
  ],
  { link: showLink, section: problem, locked: askForKey },
);

async function readNow(): Promise<void> {
  const [readiness, replies] = await Promise.all([api.readiness(), api.live()]);
  live.show(readiness, replies.data, names);
}

async function readHour(): Promise<void> {
  history.merge(await api.metrics(history.since));
  const slots = history.finished;
  hour.show(slots, history.slotSeconds);
  live.showSlot(slots.at(-1), history.slotSeconds);
}

async function readKeys(): Promise<void> {
  const known = (await api.keys()).data;
  names = Object.fromEntries(known.map(({ id, name }) => [id, name]));
  keys.show(known);
}

async function readUsage(): Promise<void> {
  const by = usageBy.value as "day" | "model" | "key";
  const { data } = await api.usage(by, USAGE_DAYS);
  const rows = by === "day" ? data.toSorted((one, other) => (other.day ?? "").localeCompare(one.day ?? "")) : data;
  if (by === usageBy.value) usage.show({ by, rows, names });
}

function showLink(state: LinkState): void {
  if (state === "live") lostAt = null;
  if (state === "away") lostAt ??= Date.now();
  const since = clock((lostAt ?? 0) / 1000, true);
  const words: Record<LinkState, string> = {
    connecting: "Connecting…",
    live: "Live",
    away: `Not reachable since ${since}. Trying again…`,
    locked: "Wants a key",
    paused: "Paused",
  };
  byId("link").dataset["state"] = state;
  byId("link-text").textContent = words[state];
  document.documentElement.dataset["link"] = state;
}

/** What could not be read is said in its own section; null takes it back. */
function problem(section: string, error: unknown): void {
  const line = byId(`${section}-problem`);
  line.hidden = error === null;
  line.textContent = error === null ? "" : reasonOf(error);
}

/** Asks until there is a key to try. Whoever closes the dialog finds a button to open it again. */
async function askForKey(error: ApiError): Promise<void> {
  const text =
    error.status === 403
      ? "This key may not see everybody's data. One that may is made with `frontdesk keys create NAME --scope admin --scope usage --scope chat`."
      : "`frontdesk keys create NAME --scope admin --scope usage --scope chat` makes one. It stays in this tab.";
  const opener = byId("key-open");
  for (;;) {
    const key = await ask({ title: "An operator's key", text, yes: "Continue", input: { label: "Key", value: "", secret: true } });
    if (key) return void tab.set(KEY, key);
    opener.hidden = false;
    await new Promise((resolve) => opener.addEventListener("click", resolve, { once: true }));
    opener.hidden = true;
  }
}

wireCancelButtons();
onClick("theme", switchTheme);
usageBy.addEventListener("change", () => watch.soon("usage"));
void watch.run();
