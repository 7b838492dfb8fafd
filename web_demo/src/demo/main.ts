// The demo page: makes its parts and tells them of each other. The address names the open conversation, after the #.

import { Client } from "../api/client.js";
import { Conversations, titleOf } from "../api/conversations.js";
import { ApiError } from "../api/errors.js";
import { FeedbackApi } from "../api/feedback.js";
import { PendingTurns } from "../api/pending.js";
import { SocketTransport } from "../api/socket_transport.js";
import { SseTransport } from "../api/sse_transport.js";
import type { Conversation } from "../api/types.js";
import { Announcer } from "../text/announcer.js";
import { ask, wireCancelButtons } from "./ask.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { byId, onClick, somethingOpen } from "./dom.js";
import { Inspect } from "./inspect.js";
import { Log } from "./log.js";
import { Meter } from "./meter.js";
import { browser, chooseKey, key } from "./preferences.js";
import { Ratings } from "./ratings.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { reasonOf } from "./wording.js";
import { element } from "../text/element.js";

const CONVERSATION = /^#(conv_[0-9a-f]{32})$/;
const NOTICE_MS = 8000;
let noticeTimer: ReturnType<typeof setTimeout> | undefined;

const meter = new Meter();
const client = new Client(location.origin, key, (headers) => meter.heard(headers));
const conversations = new Conversations(client);
const announcer = new Announcer(byId("live"));
const sidebar = new Sidebar(conversations, failed);
const settings = new Settings(client);
const inspect = new Inspect();
const log = new Log({
  announce: (text) => announcer.say(text),
  failed,
  edit: (message) => chat.edit(message),
  again: (message) => void chat.again(message),
  rate: (message, wanted) => ratings.give(message, wanted),
});
const ratings = new Ratings({
  api: new FeedbackApi(client),
  log,
  announce: (text) => announcer.say(text),
  failed,
});
const composer = new Composer(
  (text) => void chat.send(text),
  () => chat.stop(),
  () => chat.edit(null),
);
const chat = new Chat({
  conversations,
  transports: { sse: new SseTransport(client), websocket: new SocketTransport(client) },
  pendings: new PendingTurns(browser),
  announcer,
  log,
  composer,
  opened,
  notOpened,
  began: (conversation) => sidebar.put(conversation),
  context: (context) => meter.show(context),
  earlier,
  event: (raw) => inspect.add(raw),
  failed,
});

function opened(conversation: Conversation | null): void {
  const title = conversation ? titleOf(conversation) : "New conversation";
  document.title = conversation ? `${title} · Frontdesk` : "Frontdesk";
  name(title, conversation?.id ?? null, conversation !== null);
}

/** Nothing can be done with a conversation that could not be read. */
function notOpened(id: string, error: unknown): void {
  document.title = "Frontdesk";
  name("Conversation", id, false);
  if (error instanceof ApiError && error.status === 401) void askForKey();
}

/** What is on view, in the head, in the list and in the address; `there`: it can be renamed, deleted and so on. */
function name(title: string, id: string | null, there: boolean): void {
  byId("title").textContent = title;
  sidebar.current = id;
  void ratings.open(there ? id : null);
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-needs-conversation]")) {
    button.disabled = !there;
  }
  const address = id ? `#${id}` : location.pathname;
  if (location.hash !== (id ? address : "")) history.pushState(null, "", address);
}

/** Older messages came onto the page, or may be had. */
function earlier(more: boolean): void {
  if (!more && document.activeElement === byId("earlier")) log.focus(); // the button goes away
  byId("earlier").hidden = !more;
  ratings.mark();
}

function idInAddress(): string | null {
  return CONVERSATION.exec(location.hash)?.[1] ?? null;
}

async function beginNew(): Promise<void> {
  sidebar.slide(false);
  await chat.open(null);
  composer.focus();
}

/** Tells what went wrong. A server that wants a key is given one. */
function failed(error: unknown): void {
  if (error instanceof ApiError && error.status === 401) return void askForKey();
  const notice = byId("notice");
  notice.replaceChildren(element("span", "", reasonOf(error)));
  notice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (notice.hidden = true), NOTICE_MS);
}

/** Reads all that the page shows. */
function begin(): void {
  settings.load((text) => void chat.send(text)).catch(failed);
  void sidebar.refresh();
  void chat.open(idInAddress());
}

async function askForKey(): Promise<void> {
  if (document.querySelector("dialog[open]")) return;
  const given = await ask({
    title: "This server asks for a key",
    text: "Its operator makes one with `frontdesk keys create NAME`. It stays in this tab.",
    yes: "Continue",
    input: { label: "Key", value: "", secret: true },
  });
  if (!given) return;
  if (chooseKey(given)) location.reload();
  else begin();
}

async function rename(): Promise<void> {
  const conversation = chat.conversation;
  if (!conversation) return;
  const value = titleOf(conversation);
  const title = await ask({ title: "Rename the conversation", yes: "Rename", input: { label: "Title", value } });
  if (!title) return;
  const renamed = await conversations.rename(conversation, title);
  chat.renamed(renamed);
  sidebar.put(renamed);
  if (chat.conversation?.id === renamed.id) opened(renamed);
}

async function remove(): Promise<void> {
  const conversation = chat.conversation;
  if (!conversation) return;
  const text = `“${titleOf(conversation)}” and everything that was said in it. This cannot be undone.`;
  if ((await ask({ title: "Delete the conversation?", text, yes: "Delete" })) === null) return;
  await conversations.delete(conversation.id).catch((error: unknown) => {
    if (!(error instanceof ApiError && error.status === 404)) throw error; // another tab was faster
  });
  chat.forget(conversation.id);
  sidebar.drop(conversation.id);
  if (chat.conversation?.id === conversation.id) await beginNew();
}

async function save(format: "json" | "markdown"): Promise<void> {
  const conversation = chat.conversation;
  if (!conversation) return;
  const link = element("a");
  link.href = URL.createObjectURL(await conversations.export(conversation.id, format));
  link.download = `${titleOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-")}.${format === "json" ? "json" : "md"}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** An entry of the menu: closes it, and tells what went wrong. */
function onMenu(id: string, act: () => Promise<void>): void {
  onClick(id, () => {
    byId("menu").hidePopover();
    act().catch(failed);
  });
}

wireCancelButtons();
onClick("new", () => void beginNew());
onClick("earlier", () => void chat.showEarlier());
onMenu("rename", rename);
onMenu("delete", remove);
onMenu("export-json", () => save("json"));
onMenu("export-markdown", () => save("markdown"));
addEventListener("popstate", () => {
  if (idInAddress() !== chat.addressed) void chat.open(idInAddress());
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") void sidebar.refresh();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !somethingOpen()) {
    if (inspect.open && !composer.busy) inspect.show(false);
    else chat.stop();
  }
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    void beginNew();
  }
});

if (idInAddress()) log.clear(); // no greeting in front of a conversation that is on its way
begin();
if (matchMedia("(hover: hover)").matches) composer.focus();
