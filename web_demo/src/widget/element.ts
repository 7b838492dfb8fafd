// <support-chat>: the element that pages embed. Reads the attributes, puts the parts together in a shadow root, and tells
// the page what happens by events. Its style is a sheet of its own, which no content security policy stands against.

import { SocketTransport } from "../api/socket_transport.js";
import { SseTransport } from "../api/sse_transport.js";
import { Announcer } from "../text/announcer.js";
import { Handoffs } from "./handoff.js";
import hostStyle from "./host.css";
import { Launcher } from "./launcher.js";
import panelStyle from "./panel.css";
import { Panel } from "./panel.js";
import { Session, type Identity } from "./session.js";
import markdownStyle from "./markdown.css";
import messagesStyle from "./messages.css";
import { Talk } from "./talk.js";
import { VisitorClient, VisitorTransport } from "./visitor_client.js";
import { Visits } from "./visits.js";
import { isFromTheRight, spokenFor, wordsOf } from "./words.js";
import { element } from "../text/element.js";

export const TAG = "support-chat";
export const ATTRIBUTES = [
  "widget", "server", "lang", "dir", "title", "greeting", "questions", "theme", "transport", "open",
] as const; // prettier-ignore

const KEYS = ["keydown", "keypress", "keyup"];

const sheet = new CSSStyleSheet();
sheet.replaceSync([hostStyle, panelStyle, messagesStyle, markdownStyle].join("\n"));

/** What there is while the element stands in a document. */
interface Life {
  talk: Talk;
  panel: Panel;
  launcher: Launcher;
  end: AbortController;
}

export class SupportChat extends HTMLElement {
  static readonly observedAttributes = ATTRIBUTES;
  /** Where the script came from: the server of elements that name none. */
  static home = "";

  readonly #shadow: ShadowRoot;
  #life: Life | null = null;
  #identity: Identity | null = null;
  #draft: readonly string[] = []; // what was written and not sent, while there is no panel
  #renewing = false;
  readonly #open = (): void => void this.toggleAttribute("open", true);

  constructor() {
    super();
    this.#shadow = this.attachShadow({ mode: "open" });
    this.#shadow.adoptedStyleSheets = [sheet];
  }

  connectedCallback(): void {
    this.#begin();
  }

  disconnectedCallback(): void {
    this.#end();
  }

  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before === now || name === "theme") return; // of which the style sheet takes care
    if (name === "open") return this.#toggled(now !== null);
    if (this.#renewing) return;
    this.#renewing = true; // once, however many attributes change together
    queueMicrotask(() => {
      if (!this.#renewing || !this.isConnected) return; // it has begun since, or will when it is in a document
      this.#end();
      this.#begin();
    });
  }

  /** Opens the panel. To set it does what the attribute does, since frameworks set every property that they find. */
  get open(): () => void {
    return this.#open;
  }

  set open(value: unknown) {
    this.toggleAttribute("open", value !== false && value != null);
  }

  close(): void {
    this.toggleAttribute("open", false);
  }

  /** Says who the visitor is: a token that your server signed, or a function that fetches one. */
  identify(identity: Identity): void {
    this.#identity = identity;
    this.#life?.talk.identify(identity);
  }

  /** Forgets the visitor in this browser, for when somebody signs out. */
  reset(): void {
    this.#identity = null;
    this.#draft = [];
    if (this.#life) this.#life.talk.reset();
    else new Visits(this.getAttribute("widget") ?? "").clear();
  }

  #begin(): void {
    this.#renewing = false;
    const widget = this.getAttribute("widget");
    const server = (this.getAttribute("server") ?? SupportChat.home).replace(/\/+$/, "");
    if (!widget || !server) return console.warn(`<${TAG}> needs the attribute ${widget ? "server" : "widget"}`);
    const pageLanguage = this.closest<HTMLElement>("[lang]:not([lang=''])")?.lang || navigator.language;
    const language = this.getAttribute("lang") || pageLanguage;
    const words = wordsOf(language);
    const title = this.getAttribute("title") || words.title;

    const end = new AbortController();
    const visits = new Visits(widget);
    const session = new Session(server, widget, visits);
    if (this.#identity !== null) session.identify(this.#identity);
    const client = new VisitorClient(session);
    const sse = new SseTransport(client);
    const socket = this.getAttribute("transport") === "websocket";
    const live = element("div", "unseen");
    live.ariaLive = "polite";
    const launcher = new Launcher(words, () => this.toggleAttribute("open"));
    const panel = new Panel(words, title, {
      close: () => this.close(),
      anew: () => void talk.anew(),
      earlier: () => void talk.showEarlier(),
      send: (text) => talk.send(text),
      stop: () => talk.stop(),
      person: (contact, message) => void talk.person(contact, message),
    });
    const talk = new Talk({
      session,
      visits,
      client,
      handoffs: new Handoffs(client),
      transport: socket ? new VisitorTransport(new SocketTransport(client), sse, session) : sse,
      panel,
      launcher,
      announcer: new Announcer(live),
      words,
      opening: { greeting: this.getAttribute("greeting") || words.greeting, questions: this.#questions() },
      signal: end.signal,
      message: (role) => this.#tell("message", { role }),
      failed: (code, status) => this.#tell("error", { code, status }),
      requested: () => this.#tell("handoff"),
    });
    const root = element("div", "root", panel.root, launcher.root, live);
    root.lang = spokenFor(language);
    panel.log.scroll.lang = language; // the page's own greeting, and most of what is said
    root.dir = this.#direction(language);
    root.title = ""; // the element's own title is a name, and no tooltip over everything
    root.addEventListener("keydown", (event) => this.#key(event), { capture: true });
    // What is typed here is no shortcut of the page, which cannot see into what a key goes.
    for (const type of KEYS) panel.root.addEventListener(type, (event) => event.stopPropagation());
    // A panel that the page opened is not yet a visitor who wants to talk: that begins when somebody goes into it.
    panel.root.addEventListener("focusin", () => talk.looked());
    this.#shadow.replaceChildren(root);
    panel.draft = this.#draft;
    this.#life = { talk, panel, launcher, end };
    panel.open = launcher.open = this.hasAttribute("open");
  }

  #end(): void {
    this.#draft = this.#life?.panel.draft ?? this.#draft;
    this.#life?.end.abort();
    this.#life = null;
    this.#shadow.replaceChildren();
  }

  #toggled(open: boolean): void {
    if (!this.#life) return; // what begins looks at the attribute itself
    const { panel, launcher, talk } = this.#life;
    const focused = panel.root.contains(this.#shadow.activeElement);
    panel.open = launcher.open = open;
    talk.looked();
    if (open) panel.focus();
    else if (focused) launcher.root.focus({ preventScroll: true });
    this.#tell(open ? "open" : "close");
  }

  #key(event: KeyboardEvent): void {
    if (event.key !== "Escape" || event.isComposing || !this.hasAttribute("open")) return;
    event.stopPropagation();
    this.close();
    // Where the launcher has the focus now, the key is released at it.
    this.#life?.launcher.root.addEventListener("keyup", (up) => up.stopPropagation(), { once: true });
  }

  #direction(language: string): "ltr" | "rtl" {
    const own = this.getAttribute("dir");
    if (own === "rtl" || own === "ltr") return own;
    return getComputedStyle(this).direction === "rtl" || isFromTheRight(language) ? "rtl" : "ltr";
  }

  #questions(): string[] {
    const text = this.getAttribute("questions");
    if (!text) return [];
    try {
      const found: unknown = JSON.parse(text);
      if (Array.isArray(found) && found.every((question) => typeof question === "string")) return found;
    } catch {
      // answered below
    }
    console.warn(`<${TAG}>: the attribute questions is not a JSON list of texts`);
    return [];
  }

  /** Tells the page; never what the visitor wrote. */
  #tell(name: string, detail: object = {}): void {
    this.dispatchEvent(new CustomEvent(`frontdesk:${name}`, { bubbles: true, composed: true, detail }));
  }
}

/** Makes the element known, once a page. `script` is the address of the file that does. */
export function define(script: string): void {
  if (customElements.get(TAG)) return;
  SupportChat.home = new URL(script).origin;
  customElements.define(TAG, SupportChat);
}
