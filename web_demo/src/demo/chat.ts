// The conversation that is open: shows it, asks, follows the answer, and puts right what a broken connection left open.
//
// Everything shown comes from the server, but for the turn that runs: that is a `Turn`, which outlives a reload. A turn
// whose conversation is not open goes on without being shown.

import { shortTitle } from "../api/conversations.js";
import { ApiError, ConnectionLost } from "../api/errors.js";
import { answerOf, wasHeard, type Pending } from "../api/pending.js";
import type { Transport } from "../api/transport.js";
import { newPending, Turn } from "../api/turn.js";
import type { Conversation, Item, TurnRequest } from "../api/types.js";
import type { Message } from "./message.js";
import { choices, requestFields, transport } from "./preferences.js";
import type { Surroundings } from "./surroundings.js";
import { factsOf, reasonOf, statusOf, whyUnread } from "./wording.js";

const RECENT = 6; // newest items that are looked at when a turn is over

export class Chat {
  #conversation: Conversation | null = null;
  #addressed: string | null = null; // id of the conversation that is open or being opened; null for a new one
  #opening: Promise<void> | null = null; // what is being opened
  #oldest = ""; // id of the oldest item on the page
  #missed = false; // another tab got on with what is being opened here
  #visit = 0; // counts what was opened, so that a slow answer cannot replace a newer one
  #editing: Message | null = null;
  #editingIn: string | null = null; // id of the conversation that it is in
  #sending: { stopped: boolean } | null = null; // a message is on its way, but there is no turn yet
  readonly #turns = new Map<string, Turn>();

  constructor(private readonly page: Surroundings) {
    page.pendings.watch((id, pending) => this.#otherTab(id, pending));
  }

  get conversation(): Conversation | null {
    return this.#conversation;
  }

  /** Id of the conversation that is open or being opened; null for a new one. */
  get addressed(): string | null {
    return this.#addressed;
  }

  /** Opens a conversation; null begins a new one. Whatever is said in the one before goes on. */
  async open(id: string | null): Promise<void> {
    const visit = ++this.#visit;
    this.#addressed = id;
    this.#missed = false;
    if (id !== this.#editingIn) this.edit(null);
    for (const turn of this.#turns.values()) this.#unfollow(turn);
    if (id === null) return this.#openNew();
    const opening = this.#load(id, visit);
    this.#opening = opening;
    await opening;
    if (visit !== this.#visit) return;
    this.#opening = null;
    if (this.#missed && !this.#turns.has(id)) return this.open(id);
    if (id === this.#conversation?.id && !this.#speaks(id)) await this.#refreshContext(id);
  }

  async #load(id: string, visit: number): Promise<void> {
    const pending = this.page.pendings.get(id); // looked at before the items: a turn may end between the two
    try {
      const asked = [this.page.conversations.get(id), this.page.conversations.items(id)] as const;
      const [conversation, items] = await Promise.all(asked);
      if (visit !== this.#visit) return;
      this.#show(conversation, items.data, items.has_more);
      if (pending) this.#pickUp(pending);
    } catch (error) {
      const gone = error instanceof ApiError && error.status === 404;
      if (gone) this.forget(id);
      if (visit !== this.#visit) return;
      if (!gone) return this.#showFailed(id, error);
      this.#openNew();
      this.page.failed(error);
    }
  }

  /**
   * Sends a message: in the conversation that is open or being opened, in a new one, or in a fork when an earlier message
   * is being edited. Where another one is opened before that, the text goes back to where it was written.
   */
  async send(text: string): Promise<void> {
    const { announcer, composer } = this.page;
    if (composer.busy) return;
    const sending = { stopped: false };
    this.#sending = sending;
    composer.busy = true;
    try {
      const fields = requestFields(choices());
      const id = await this.#place(text);
      if (id === null) {
        composer.giveBack(text);
        announcer.say("The message was not sent. It is back in its box.");
      } else {
        const turn = this.#begin(id, { ...fields, input: text }, this.page.log.newest);
        if (sending.stopped) turn.stop();
      }
    } catch (error) {
      composer.giveBack(text);
      this.page.failed(error);
    } finally {
      if (this.#sending === sending) {
        this.#sending = null;
        composer.busy = this.#speaks(this.#conversation?.id);
      }
    }
  }

  stop(): void {
    const turn = this.#conversation && this.#turns.get(this.#conversation.id);
    if (this.#sending && (this.#opening || !turn)) this.#sending.stopped = true;
    else if (turn) turn.stop();
    else this.edit(null);
  }

  /** Takes back the last answer and asks for another one. */
  async again(answer: Message): Promise<void> {
    const id = this.#conversation?.id;
    if (!id || !answer.id || this.#speaks(id) || answer !== this.page.log.last) return;
    const { conversations } = this.page;
    const question = this.page.log.messages.at(-2);
    try {
      if (question) question.id ??= (await conversations.items(id, answer.id, 1)).data[0]?.id ?? null;
      await conversations.deleteItem(id, answer.id);
    } catch (error) {
      return this.page.failed(error);
    }
    const focused = answer.root.contains(document.activeElement);
    this.page.log.remove(answer);
    if (focused) this.page.composer.focus(); // the button is gone
    this.#begin(id, requestFields(choices()), question?.id ?? null);
  }

  /** Puts an earlier message into the composer; null ends editing. */
  edit(message: Message | null): void {
    const { composer } = this.page;
    if (message && !message.id) return;
    if (message || this.#editing) composer.text = message?.text ?? "";
    this.#editing = message;
    this.#editingIn = message && (this.#conversation?.id ?? null);
    composer.editing = message !== null;
    if (message) composer.focus();
  }

  async showEarlier(): Promise<void> {
    const id = this.#conversation?.id;
    const oldest = this.#oldest;
    if (!id) return;
    try {
      const page = await this.page.conversations.items(id, oldest);
      if (id !== this.#conversation?.id || oldest !== this.#oldest) return;
      this.#oldest = page.last_id;
      this.page.log.keepPlace(() => {
        this.page.log.prepend(page.data.reverse());
        this.page.earlier(page.has_more);
      });
    } catch (error) {
      this.page.failed(error);
    }
  }

  renamed(conversation: Conversation): void {
    if (conversation.id === this.#conversation?.id) this.#conversation = conversation;
  }

  /** Nothing of this conversation is of interest any more. */
  forget(id: string): void {
    this.#turns.get(id)?.leave();
    this.#turns.delete(id);
    const pending = this.page.pendings.get(id);
    if (pending) this.page.pendings.remove(pending);
  }

  #openNew(): void {
    this.#conversation = this.#addressed = this.#opening = null;
    this.page.log.showEmpty();
    this.page.composer.busy = false;
    this.page.earlier(false);
    this.page.context(null);
    this.page.opened(null);
  }

  /** It may still be there: its address stays, and it can be tried again. */
  #showFailed(id: string, error: unknown): void {
    this.#conversation = null;
    this.page.composer.busy = false;
    this.page.earlier(false);
    this.page.context(null);
    this.page.notOpened(id, error);
    this.page.log.showFailed(whyUnread(error), () => {
      this.page.composer.focus(); // the button goes away
      void this.open(id);
    });
    this.page.announcer.say(whyUnread(error));
  }

  #show(conversation: Conversation, newestFirst: Item[], more: boolean): void {
    if (conversation.id !== this.#editingIn) this.edit(null); // of the one that was on view until now
    this.#conversation = conversation;
    this.#oldest = newestFirst.at(-1)?.id ?? "";
    this.page.log.clear();
    this.page.log.append(newestFirst.toReversed());
    this.page.earlier(more);
    this.page.composer.busy = false;
    this.page.opened(conversation);
  }

  /** Goes on with a turn that this page, an earlier life of it or another tab began. */
  #pickUp(pending: Pending): void {
    const { log, pendings, transports } = this.page;
    const own = this.#turns.get(pending.conversation);
    if (wasHeard(pending, log.messages)) return pendings.remove(pending);
    if (own?.over) return void this.open(pending.conversation); // it ended while its items were on their way
    if (own) return this.#follow(own);
    const lostTrack = !pending.response && !transports[pending.transport].repeatable;
    if (pending.failed !== undefined || lostTrack) {
      const { reply } = this.#ask(pending);
      return this.#offerAgain(pending, reply, pending.failed || reasonOf(new ConnectionLost()));
    }
    const way = pending.response ? transport() : pending.transport;
    this.#run(new Turn(pending, transports[way], pendings), transports[way]);
  }

  /** Where the message goes: the id of the conversation, which is open then. Null where another one was opened. */
  async #place(text: string): Promise<string | null> {
    const addressed = this.#addressed;
    const edited = this.#editing;
    while (this.#opening) await this.#opening;
    if (addressed !== this.#addressed || edited !== this.#editing || this.#speaks(addressed)) return null;
    this.page.composer.busy = true;
    const open = this.#conversation;
    if (!open && addressed) return null; // it could not be opened
    const place = open && edited?.id ? await this.#fork(open, edited.id) : (open ?? (await this.#create(text)));
    if (place) this.page.began(place);
    return place?.id ?? null;
  }

  /** Opens a fork of the conversation. Null where another one was opened meanwhile, or the fork could not be. */
  async #fork(source: Conversation, item: string): Promise<Conversation | null> {
    const { composer, conversations } = this.page;
    const fork = await conversations.forkBefore(source, item);
    if (this.#addressed === source.id) {
      void this.open(fork.id);
      while (this.#opening) await this.#opening;
    }
    if (this.#addressed !== fork.id) return this.#discard(fork);
    if (!this.#conversation) return null; // it could not be opened yet
    composer.busy = true;
    return this.#conversation;
  }

  /** Opens a conversation of which nothing was said yet. Null where another one was opened meanwhile. */
  async #create(text: string): Promise<Conversation | null> {
    const { conversations, log, opened } = this.page;
    const visit = ++this.#visit;
    const made = await conversations.create({ title: shortTitle(text) });
    if (visit !== this.#visit) return this.#discard(made);
    this.#conversation = made;
    this.#addressed = made.id;
    log.clear();
    opened(made);
    return made;
  }

  /** Nobody will speak in it. If it cannot be deleted, it stays in the list. */
  #discard({ id }: Conversation): null {
    this.page.conversations.delete(id).catch(() => undefined);
    return null;
  }

  /** Whether an answer is being given in the conversation. */
  #speaks(id: string | null | undefined): boolean {
    const turn = this.#turns.get(id ?? "");
    return turn !== undefined && !turn.over;
  }

  /** `tail`: id of the newest item that the conversation has. */
  #begin(id: string, request: TurnRequest, tail: string | null): Turn {
    const way = this.page.transports[transport()];
    const turn = new Turn(newPending(id, request, way, tail), way, this.page.pendings);
    this.#run(turn, way);
    return turn;
  }

  #run(turn: Turn, way: Transport): void {
    const id = turn.pending.conversation;
    this.#turns.set(id, turn);
    if (id === this.#addressed) this.#follow(turn, way);
    else this.#unfollow(turn);
    void turn.run().then(() => {
      if (this.#turns.get(id) === turn) this.#turns.delete(id);
    });
  }

  /** The turn goes on without being shown. */
  #unfollow(turn: Turn): void {
    turn.changed = (_, raw) => raw && this.page.event(raw);
  }

  /** Shows a running turn in the open conversation. */
  #follow(turn: Turn, way = this.page.transports[turn.pending.transport]): void {
    const { question, reply } = this.#ask(turn.pending);
    const { announcer, composer } = this.page;
    reply.busy = true;
    composer.busy = true;
    announcer.begin(turn.pending.text.length);
    const name = way.name === "sse" ? "SSE" : "WebSocket";
    let shownToEnd = false;
    let told = turn.state;
    turn.changed = (event, raw) => {
      if (raw) this.page.event(raw);
      if (shownToEnd) return;
      shownToEnd = turn.over;
      reply.show(turn.pending.text);
      reply.status = statusOf(turn);
      reply.facts = factsOf(turn, name);
      if (turn.over) void this.#over(turn, question, reply);
      else announcer.grow(turn.pending.text);
      if (turn.state === "reconnecting" && told !== turn.state) announcer.say(statusOf(turn));
      told = turn.state;
      if (event?.type === "response.created") this.page.context(turn.context);
    };
    reply.status = statusOf(turn);
  }

  #ask(pending: Pending): { question: Message | null; reply: Message } {
    const { log } = this.page;
    const asked = pending.request.input;
    const question = asked === undefined ? null : log.add("user", asked);
    return { question, reply: log.add("assistant", pending.text) };
  }

  async #over(turn: Turn, question: Message | null, reply: Message): Promise<void> {
    const { announcer, composer, conversations, log } = this.page;
    const id = turn.pending.conversation;
    reply.busy = false;
    composer.busy = false;
    if (turn.state === "failed") return this.#offerAgain(turn.pending, reply, reasonOf(turn.error));
    announcer.finish(turn.pending.text, statusOf(turn));
    // The server keeps both now, but says only the answer's id: the question's is in the list.
    const answer = answerOf(turn.pending);
    reply.id = answer || null;
    reply.settle();
    question?.settle();
    try {
      const items = (await conversations.items(id, "", RECENT)).data;
      const at = items.findIndex((item) => item.id === answer);
      if (at < 0) reply.id = null;
      else if (question) question.id = items[at + 1]?.id ?? null;
      if (id === this.#conversation?.id && log.last === reply) await this.#refreshContext(id);
    } catch (error) {
      const gone = error instanceof ApiError && error.status === 404; // it was deleted, and its answer ended by that
      if (!gone) this.page.failed(error);
    }
  }

  #offerAgain(pending: Pending, reply: Message, reason: string): void {
    this.page.announcer.say(reason);
    reply.fail(reason, () => void this.#askAgain(pending));
  }

  /** The same question once more, as the settings are now, unless it turns out that the server had heard it. */
  async #askAgain(pending: Pending): Promise<void> {
    const { composer, log, pendings } = this.page;
    const { conversation, request } = pending;
    composer.focus(); // the button goes away
    const record = pendings.get(conversation) ?? { ...pending, failed: "" };
    pendings.remove(pending);
    await this.open(conversation);
    if (this.#conversation?.id !== conversation) {
      if (!pendings.get(conversation)) pendings.put(record); // it could not be opened: nothing else has the text
      return;
    }
    if (wasHeard(pending, log.messages)) return;
    const { input } = request;
    if (this.#speaks(conversation)) return void (input && composer.giveBack(input));
    const again = { ...requestFields(choices()), ...(input === undefined ? {} : { input }) };
    this.#begin(conversation, again, log.newest);
  }

  async #refreshContext(id: string): Promise<void> {
    const context = await this.page.conversations.context(id).catch(() => null); // refused where nothing fits any more
    if (id !== this.#conversation?.id) return;
    if (!this.#speaks(id)) this.page.context(context); // else what the turn says is newer
    if (context) this.page.log.markUnseen(context);
  }

  /** Another tab began, went on with or ended a turn. */
  #otherTab(id: string, pending: Pending | null): void {
    if (id !== this.#addressed || this.#turns.has(id)) return;
    if (pending !== null && pending.response === null) return;
    if (this.#opening) this.#missed = true; // opening it anew with each event would never come to an end
    else void this.open(id);
  }
}
