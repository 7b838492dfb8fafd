// Answers that people have rated: what was asked, what was answered, what they said about it.

import { byId, iconOf, onClick } from "../demo/dom.js";
import type { OperatorApi } from "./api.js";
import { moment } from "./format.js";
import { Pages } from "./pages.js";
import { facts, nothing, Rows } from "./parts.js";
import type { Rated } from "./types.js";
import { element } from "../text/element.js";

export class Feedback {
  readonly #filter = byId<HTMLSelectElement>("feedback-filter");
  readonly #rows = new Rows<Rated[]>(byId("feedback-rows"), (rated) =>
    rated.length ? rated.map(entry) : [nothing("No answer was rated.")],
  );
  readonly #pages: Pages<Rated>;

  /** `changed` is called when another kind is wanted, `failed` when a further page did not come. */
  constructor(api: OperatorApi, changed: () => void, failed: (error: unknown) => void) {
    this.#pages = new Pages<Rated>(
      ({ id }) => id,
      (after) => api.feedback(this.#filter.value, after),
      (rated, more) => {
        this.#rows.show(rated);
        byId("feedback-more").hidden = !more;
      },
    );
    this.#filter.addEventListener("change", () => {
      this.#pages.clear();
      changed();
    });
    onClick("feedback-more", () => void this.#pages.more().catch(failed));
  }

  refresh(): Promise<void> {
    return this.#pages.refresh();
  }
}

function entry(rated: Rated): HTMLElement {
  const up = rated.rating === "up";
  const mark = element("span", up ? "mark good" : "mark bad", iconOf(up ? "good" : "bad"));
  mark.role = "img";
  mark.ariaLabel = up ? "Good answer" : "Bad answer";
  return element(
    "li",
    "entry rated",
    mark,
    element(
      "div",
      "talk",
      ...(rated.question ? [element("p", "asked", element("span", "hidden", "Question: "), rated.question)] : []),
      element("p", "answered", element("span", "hidden", "Answer: "), rated.answer),
      ...(rated.comment ? [element("p", "comment", element("span", "hidden", "Comment: "), rated.comment)] : []),
      facts(moment(rated.created_at), rated.model, rated.conversation),
    ),
  );
}
