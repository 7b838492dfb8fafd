// The visitor's conversation: read from the server, asked in, followed to the end of each answer, in this tab and in the
// others of the same site.
//
// Everything on view comes from the server, but for the turn that runs: that is a `Turn`, which outlives a reload. No
// session is opened before somebody wants one. Knows the panel by what it can show, not by what it is made of.

import { Backoff } from "../api/backoff.js";
import type { Client } from "../api/client.js";
import { ApiError, ConnectionLost, isAbort } from "../api/errors.js";
import { answerOf, PendingTurns, wasHeard, type Pending } from "../api/pending.js";
import type { Transport } from "../api/transport.js";
import { newPending, Turn } from "../api/turn.js";
import type { Item, Page } from "../api/types.js";
import type { Announcer } from "../text/announcer.js";
import type { Handoffs } from "./handoff.js";
import type { Launcher } from "./launcher.js";
import type { Opening } from "./log.js";
import type { Message, Role } from "./message.js";
import type { Panel } from "./panel.js";
import { reasonOf, statusOf } from "./reasons.js";
import type { Identity, Session } from "./session.js";
import { Unsent } from "./unsent.js";
import type { Visit, Visits } from "./visits.js";
import type { Words } from "./words.js";

const PAGE = 50; // items
const STALE_MS = 60_000; // older than this, a tab that is looked at again asks what is new

export interface Surroundings {
  session: Session;
  visits: Visits;
  client: Client;
  handoffs: Handoffs;
  transport: Transport;
  panel: Panel;
  launcher: Launcher;
  announcer: Announcer;
  words: Words;
  opening: Opening;
  /** Ends everything. */
  signal: AbortSignal;
  message(role: Role): void;
  failed(code: string, status: number | null): void;
  requested(): void;
}

export class Talk {
  #conversation = ""; // that is on view; "" before the first
  #oldest = ""; // id of the oldest item that was read
  #turn: Turn | null = null;
  #loading: Promise<void> | null = null;
  #loaded = 0; // when the conversation was read last
  #failed = false;
  #told = ""; // id of the newest answer of which this tab has said that it was seen
  #anew = false; // another conversation is wanted: the one before must not be read again
  #redraw = false; // what is on view is not to be trusted
  #left = 0; // how often
  #visitors = 0; // how many were forgotten: what one of them began must not come to the next
  #retry = new AbortController(); // of the next attempt to load
  readonly #backoff = new Backoff();
  readonly #pendings: PendingTurns;
  readonly #unsent: Unsent;

  constructor(private readonly around: Surroundings) {
    const { visits, signal } = around;
    this.#unsent = new Unsent(visits);
    this.#pendings = new PendingTurns(visits.store, `${visits.prefix}turn.`);
    this.#pendings.watch((id, pending) => this.#otherTabSaid(id, pending), signal);
    visits.watch((visit) => this.#otherTabIs(visit), signal);
    addEventListener("online", () => void (this.#failed && this.load()), { signal });
    document.addEventListener("visibilitychange", () => this.#lookedAt(), { signal });
    signal.addEventListener("abort", () => {
      this.#turn?.leave();
      this.#retry.abort();
      around.transport.close();
    });
    this.#welcome();
    const { kept } = this.#unsent;
    this.#anew = kept?.anew ?? false;
    if (kept) void this.#sendLater(kept.text);
    else if (around.session.remembered) void this.load();
  }

  /** Opens the session and reads the conversation. Never throws: what is wrong is on view. */
  load(): Promise<void> {
    this.#retry.abort();
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** The visitor looks at the panel now, or no longer. */
  looked(): void {
    if (this.around.panel.open && !this.#conversation) void this.load();
    this.#count();
  }

  identify(identity: Identity): void {
    this.around.session.identify(identity);
    this.#leave();
    if (this.around.panel.open || this.around.session.remembered) void this.#again();
  }

  reset(): void {
    this.around.session.reset();
    this.#forget();
  }

  send(text: string): void {
    if (this.#turn) this.around.panel.composer.giveBack(text);
    else if (this.#conversation) this.#begin(text);
    else void this.#sendLater(text);
  }

  /** Stops the answer, or what was sent before its turn could begin. */
  stop(): void {
    this.#takeBack();
    this.#turn?.stop();
  }

  /** Begins another conversation. An answer that is still being written is written to its end. */
  async anew(): Promise<void> {
    this.around.panel.focus(); // the button goes
    this.#leave();
    this.#anew = true;
    await this.#again();
  }

  async showEarlier(): Promise<void> {
    const [id, oldest] = [this.#conversation, this.#oldest];
    const { log } = this.around.panel;
    try {
      const page = await this.#items(id, oldest);
      if (id !== this.#conversation || oldest !== this.#oldest) return;
      this.#oldest = page.last_id;
      log.prepend(page.data.reverse());
      log.more = page.has_more;
    } catch (error) {
      this.#fail(error);
    }
  }

  async person(contact: string, message: string): Promise<void> {
    const { handoffs, panel, visits, words } = this.around;
    const visitor = this.#visitors;
    let refusal = words.unreachable;
    try {
      if (!this.#conversation) await this.load();
      const id = this.#conversation;
      if (id && visitor === this.#visitors) {
        const handoff = await handoffs.ask(id, contact, message);
        this.around.requested();
        refusal = "";
        if (id === this.#conversation) {
          panel.handoff = handoff;
          visits.change({ handoff: true });
        }
      }
    } catch (error) {
      refusal = reasonOf(error, words).text;
    }
    if (visitor === this.#visitors) panel.formSent(refusal);
  }

  /** Shows what was asked and keeps it, until there is a conversation to ask it in: then `#load` does. */
  async #sendLater(text: string): Promise<void> {
    const { panel, session, words } = this.around;
    this.#unsent.put(text, this.#anew, session.vouched);
    const reply = this.#ask(text, "");
    reply.busy = panel.composer.busy = true;
    reply.status = words.thinking;
    await this.load();
    if (!this.around.signal.aborted) this.#takeBack(); // else another life of the element waits with it
  }

  /** What could not be asked goes back to where it was written. */
  #takeBack(): void {
    if (!this.#unsent.waiting) return;
    const text = this.#unsent.take();
    this.#welcome();
    if (text) this.around.panel.composer.giveBack(text);
  }

  /** Waits for what is under way, then reads everything again. */
  async #again(): Promise<void> {
    const left = this.#left;
    await this.#loading;
    if (left === this.#left && !this.#turn && !this.around.signal.aborted) await this.load();
  }

  async #load(): Promise<void> {
    const { panel, session, signal } = this.around;
    try {
      if (this.#anew) {
        await session.begin();
        this.#anew = false;
      } else await session.fresh();
      const id = session.conversation;
      const pending = this.#pendings.get(id); // looked at before the items: a turn may end between the two
      const page = await this.#items(id);
      if (signal.aborted || id !== session.conversation || this.#turn || this.#anew) return;
      // What is on view already stays where the reader has scrolled it.
      const known = id === this.#conversation && !this.#redraw && panel.log.endsWith(page.data[0]?.id);
      this.#conversation = id;
      this.#loaded = Date.now();
      this.#failed = this.#redraw = false;
      this.#backoff.reset();
      panel.notice("");
      if (!known) this.#show(page);
      this.#count(true);
      this.#pendings.keepOnly(id);
      if (pending) this.#pickUp(pending);
      const unsent = this.#unsent.take();
      if (unsent) this.send(unsent);
      await this.#readHandoff();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** A page of items, the newest first, behind the one that is named. */
  #items(id: string, after = ""): Promise<Page<Item>> {
    return this.around.client.get(`/v1/conversations/${id}/items?limit=${PAGE}${after && `&after=${after}`}`);
  }

  #show({ data: newestFirst, has_more, last_id }: Page<Item>): void {
    const { log, composer } = this.around.panel;
    this.#oldest = last_id;
    if (newestFirst.length) {
      log.clear();
      log.append(newestFirst.toReversed());
      log.more = has_more;
    } else log.welcome(this.around.opening);
    this.around.panel.started = newestFirst.length > 0;
    composer.busy = false;
  }

  #welcome(): void {
    const { panel, opening } = this.around;
    panel.log.welcome(opening);
    panel.started = false;
    panel.handoff = null;
    panel.composer.busy = false;
  }

  /** Nothing of the conversation is of interest here any more. */
  #leave(): void {
    this.#left += 1;
    this.#turn?.leave();
    this.#turn = null;
    this.#anew = false;
    this.#conversation = "";
    this.around.transport.close(); // a socket speaks for the visitor who opened it
    this.around.panel.notice("");
    this.#welcome();
    this.#count();
  }

  /** The visitor is forgotten: nothing stays here, nor comes back, for whoever is next. */
  #forget(): void {
    this.#pendings.keepOnly(""); // this tab may have saved a turn after another had removed everything
    this.#unsent.take();
    this.#visitors += 1;
    this.#leave();
    this.around.panel.forget();
  }

  async #readHandoff(): Promise<void> {
    const { handoffs, panel, visits } = this.around;
    const id = this.#conversation;
    if (!visits.get()?.handoff) return;
    try {
      const handoff = await handoffs.get(id);
      if (id === this.#conversation) panel.handoff = handoff;
    } catch (error) {
      if (id !== this.#conversation) return;
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      visits.change({ handoff: false });
    }
  }

  /** Goes on with a turn that an earlier page or another tab began. */
  #pickUp(pending: Pending): void {
    if (wasHeard(pending, this.around.panel.log.messages)) return this.#pendings.remove(pending);
    const repeatable = pending.transport === "sse" && this.around.transport.repeatable;
    const lostTrack = !pending.response && !repeatable;
    if (pending.failed === undefined && !lostTrack) return this.#run(pending);
    const reply = this.#ask(pending.request.input, pending.text);
    this.#offerAgain(pending, reply, this.around.words.notAnswered);
  }

  #begin(text: string): void {
    const { panel, transport } = this.around;
    this.around.message("user");
    this.#run(newPending(this.#conversation, { input: text }, transport, panel.log.newest));
  }

  #run(pending: Pending): void {
    if (this.around.signal.aborted) return; // the element went while something was read
    const turn = new Turn(pending, this.around.transport, this.#pendings);
    this.#turn = turn;
    this.#follow(turn);
    void turn.run();
  }

  #follow(turn: Turn): void {
    const { announcer, panel, words } = this.around;
    const reply = this.#ask(turn.pending.request.input, turn.pending.text);
    reply.busy = panel.composer.busy = true;
    reply.status = statusOf(turn, words);
    panel.started = true;
    announcer.begin(turn.pending.text.length);
    let shownToEnd = false;
    let told = turn.state;
    turn.changed = () => {
      if (shownToEnd || turn !== this.#turn) return;
      shownToEnd = turn.over;
      reply.show(turn.pending.text);
      reply.status = statusOf(turn, words);
      if (turn.over) this.#over(turn, reply);
      else if (panel.open) announcer.grow(turn.pending.text);
      if (turn.state === "reconnecting" && told !== turn.state) announcer.say(words.reconnecting);
      told = turn.state;
    };
  }

  /** Shows what was asked, and as much of the answer as there is. The answer's message. */
  #ask(question: string | undefined, answer: string): Message {
    const { log } = this.around.panel;
    if (question !== undefined) log.add("user", question);
    return log.add("assistant", answer);
  }

  #over(turn: Turn, reply: Message): void {
    const { announcer, panel, words } = this.around;
    this.#turn = null;
    panel.composer.busy = false;
    if (turn.state === "failed") {
      const { code, status, text } = reasonOf(turn.error, words);
      this.around.failed(code, status);
      return this.#offerAgain(turn.pending, reply, text);
    }
    reply.settle();
    reply.id = answerOf(turn.pending);
    if (panel.open) announcer.finish(turn.pending.text, statusOf(turn, words));
    this.#count(true);
    this.around.message("assistant");
  }

  #offerAgain(pending: Pending, reply: Message, reason: string): void {
    this.around.announcer.say(reason);
    reply.fail(reason, () => void this.#askAgain(pending));
  }

  /** The same question once more, unless it turns out that the server had heard it. */
  async #askAgain(pending: Pending): Promise<void> {
    if (this.#turn) return;
    this.around.panel.focus(); // the button goes
    this.#redraw = true;
    const { conversation } = pending;
    const record = this.#pendings.get(conversation) ?? { ...pending, failed: "" };
    this.#pendings.remove(pending);
    await this.#again();
    if (this.#failed) this.#pendings.put(record); // nothing else has the text
    if (this.#failed || this.#conversation !== conversation) return;
    const { input } = pending.request;
    if (input !== undefined && !wasHeard(pending, this.around.panel.log.messages)) this.send(input);
  }

  /** Another tab began, went on with or ended a turn. */
  #otherTabSaid(id: string, pending: Pending | null): void {
    // The session's, not the one on view: what is being read now may have been so before that, and is read once more.
    if (id !== this.around.session.conversation || this.#turn || this.#anew) return;
    if (pending === null || pending.response !== null || pending.failed !== undefined) void this.#again();
  }

  /** Another tab became somebody else, went to another conversation, or saw what was unread. */
  #otherTabIs(visit: Visit | null): void {
    const { session } = this.around;
    if (visit && visit.conversation === this.#conversation) {
      this.#count();
      if (visit.handoff) this.#readHandoff().catch(() => undefined);
      return;
    }
    if (this.#conversation || this.#anew || !visit) {
      session.forget();
      if (visit) this.#leave();
      else this.#forget();
    }
    if (session.remembered) void this.#again();
  }

  #lookedAt(): void {
    this.#count();
    const stale = this.#conversation !== "" && Date.now() - this.#loaded > STALE_MS;
    if (document.visibilityState === "visible" && stale && !this.#turn) void this.load();
  }

  /** What is on view is seen; of the rest the launcher says how much there is. Where something was seen that is not on
   * view, this tab may be behind another and reads first, unless `newest`: nothing is newer than what is on view. Each
   * answer is told once, so that two tabs never take turns. */
  #count(newest = false): void {
    const { announcer, launcher, panel, visits } = this.around;
    const { log } = panel;
    const visit = visits.get();
    const before = launcher.unread;
    if (visit?.conversation !== this.#conversation) launcher.unread = 0;
    else if (visit.seen && !newest && !log.holds(visit.seen)) {
      if (!this.#turn) void this.load();
    } else if (panel.open && document.visibilityState === "visible") {
      const seen = log.newestAnswer;
      if (seen && seen !== (visit.seen && this.#told)) visits.change({ seen: (this.#told = seen) });
      launcher.unread = 0;
    } else launcher.unread = log.answersBehind(visit.seen);
    if (launcher.unread > before) announcer.say(launcher.news);
  }

  /** Says what is wrong with all of it; what may pass by itself is tried again while somebody waits. */
  #fail(error: unknown): void {
    // The visitor is somebody else now, for whom everything is read anew, or the element is gone.
    if (isAbort(error) || this.around.signal.aborted) return;
    const { panel, words } = this.around;
    const { code, status, text } = reasonOf(error, words);
    if (!this.#failed) this.around.failed(code, status);
    this.#failed = true;
    panel.notice(text, () => void this.load());
    const passing = error instanceof ConnectionLost || (error instanceof ApiError && error.passing);
    if (!passing || !panel.open) return;
    const seconds = error instanceof ApiError ? error.retryAfter : null;
    const retry = (this.#retry = new AbortController()).signal;
    void this.#backoff.wait(seconds, retry).then(() => {
      if (this.#failed && panel.open && !retry.aborted) void this.load();
    });
  }
}
