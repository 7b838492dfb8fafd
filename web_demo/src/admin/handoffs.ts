// Visitors who want a person. An operator marks them as done; a mark that the server could not be told yet waits and is
// sent as soon as it is back.

import { byId, onClick } from "../demo/dom.js";
import { ApiError } from "../api/errors.js";
import type { OperatorApi } from "./api.js";
import { count, moment } from "./format.js";
import { Pages } from "./pages.js";
import { facts, nothing, Rows } from "./parts.js";
import type { Handoff } from "./types.js";
import { element } from "../text/element.js";

type State = Handoff["state"];

export class Handoffs {
  readonly #filter = byId<HTMLSelectElement>("handoff-filter");
  readonly #badge = byId("handoff-badge");
  readonly #marks = new Map<string, State>(); // ids that the server has to be told about
  readonly #pages: Pages<Handoff>;
  readonly #rows: Rows<{ asked: Handoff[]; marks: string[]; filter: string }>;
  #asked: Handoff[] = [];
  #more = false;

  /** `changed` is called when the list should be read again, `failed` when a further page did not come. */
  constructor(
    private readonly api: OperatorApi,
    private readonly changed: () => void,
    failed: (error: unknown) => void,
  ) {
    this.#rows = new Rows(byId("handoff-rows"), ({ asked, filter }) =>
      asked.length ? asked.map((one) => this.#entry(one)) : [nothing(`Nobody ${filter === "open" ? "waits for" : "was handed to"} a person.`)],
    );
    this.#pages = new Pages<Handoff>(
      ({ id }) => id,
      (after) => api.handoffs(this.#filter.value, after),
      (asked, more) => {
        this.#asked = asked;
        this.#more = more;
        this.#draw();
      },
    );
    this.#filter.addEventListener("change", () => {
      this.#pages.clear();
      changed();
    });
    onClick("handoff-more", () => void this.#pages.more().catch(failed));
  }

  /** Sends the marks that wait, then reads the list. */
  async refresh(): Promise<void> {
    let refusal: ApiError | null = null;
    for (const [id, state] of this.#marks) {
      try {
        await this.api.mark(id, state);
        this.#pages.drop(id);
      } catch (error) {
        if (!(error instanceof ApiError) || error.passing || error.status === 401) throw error; // it is tried again
        refusal = error;
      }
      this.#marks.delete(id);
    }
    await this.#pages.refresh();
    if (refusal) throw refusal;
  }

  #mark(handoff: Handoff): void {
    this.#marks.set(handoff.id, handoff.state === "open" ? "done" : "open");
    this.#draw();
    byId("handoffs-title").focus(); // its button is about to leave
    this.changed();
  }

  #draw(): void {
    this.#rows.show({ asked: this.#asked, marks: [...this.#marks.keys()], filter: this.#filter.value });
    byId("handoff-more").hidden = !this.#more;
    if (this.#filter.value !== "open") return;
    const open = this.#asked.filter(({ id }) => !this.#marks.has(id)).length;
    this.#badge.hidden = !open;
    this.#badge.textContent = `${count(open)}${this.#more ? "+" : ""}`;
  }

  #entry(handoff: Handoff): HTMLElement {
    const open = handoff.state === "open";
    const button = element("button", "plain", open ? "Mark as done" : "Open again");
    button.type = "button";
    const who = handoff.contact ?? "Somebody without an address";
    button.ariaLabel = `${button.textContent}: ${who}`;
    button.addEventListener("click", () => this.#mark(handoff));
    const waits = element("span", "note", "Waits for the server…");
    const right = this.#marks.has(handoff.id) ? waits : button;
    return element(
      "li",
      "entry",
      element("div", "entry-head", element("h3", "", who), right),
      ...(handoff.message ? [element("p", "said", handoff.message)] : []),
      facts(moment(handoff.created_at), handoff.conversation),
    );
  }
}
