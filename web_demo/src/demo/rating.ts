// Thumbs below an answer, and a line for a comment once one of them is pressed. Knows no server.

import { LONGEST_COMMENT, type Rating } from "../api/feedback.js";
import { iconButton } from "./dom.js";
import { element } from "../text/element.js";

/** What is shown; null: nothing was said about the answer. */
export type Shown = { rating: Rating; comment: string | null } | null;

const WORDS: Record<Rating, { name: string; icon: string; question: string }> = {
  up: { name: "Good answer", icon: "good", question: "What was good about it?" },
  down: { name: "Bad answer", icon: "bad", question: "What was wrong with it?" },
};

export class RatingBar {
  /** Stand among the answer's other buttons. */
  readonly buttons: HTMLButtonElement[];
  /** Stands below them. */
  readonly line = element("div", "rating");
  #shown: Shown = null;

  /** `give` is told what the person wants it to be from now on. */
  constructor(private readonly give: (wanted: Shown) => void) {
    this.buttons = (["up", "down"] as const).map((rating) => {
      const { icon, name } = WORDS[rating];
      return iconButton(icon, name, () => this.#press(rating));
    });
    this.show(null);
  }

  show(shown: Shown): void {
    this.#shown = shown;
    this.buttons.forEach((button, at) => (button.ariaPressed = String(shown?.rating === (at === 0 ? "up" : "down"))));
    this.line.hidden = !shown;
    if (!shown) this.line.replaceChildren();
    else if (shown.comment) this.#showComment(shown.comment);
    else this.#ask(shown.rating, "");
  }

  #press(rating: Rating): void {
    const again = this.#shown?.rating === rating;
    this.give(again ? null : { rating, comment: this.#shown?.comment ?? null });
  }

  #showComment(comment: string): void {
    const change = element("button", "plain", "Change");
    change.type = "button";
    change.ariaLabel = "Change the comment";
    change.addEventListener("click", () => this.#ask(this.#shown?.rating ?? "up", comment).focus());
    this.line.replaceChildren(element("p", "rating-comment", comment), change);
  }

  #ask(rating: Rating, comment: string): HTMLInputElement {
    const input = element("input");
    input.ariaLabel = "Comment";
    input.placeholder = `${WORDS[rating].question} (optional)`;
    input.maxLength = LONGEST_COMMENT;
    input.value = comment;
    input.autocomplete = "off";
    const form = element("form", "", input, element("button", "plain", "Send"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const comment = input.value.trim() || null;
      this.give({ rating, comment });
      this.line.querySelector<HTMLElement>(comment ? "button" : "input")?.focus(); // the form was made anew
    });
    this.line.replaceChildren(form);
    return input;
  }
}
