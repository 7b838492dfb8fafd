// A question in a dialog of its own: yes or no, or a line of text.

import { byId } from "./dom.js";

export interface Question {
  title: string;
  text?: string;
  yes: string; // what the button says
  input?: { label: string; value: string; secret?: boolean }; // absent: yes or no
}

/** The line that was written ("" without an input), or null when the person does not want to. */
export function ask(question: Question): Promise<string | null> {
  const dialog = byId<HTMLDialogElement>("ask");
  const form = byId<HTMLFormElement>("ask-form");
  const input = byId<HTMLInputElement>("ask-input");
  byId("ask-title").textContent = question.title;
  byId("ask-text").textContent = question.text ?? "";
  byId("ask-yes").textContent = question.yes;
  byId("ask-label").textContent = question.input?.label ?? "";
  input.hidden = !question.input;
  input.type = question.input?.secret ? "password" : "text";
  input.value = question.input?.value ?? "";
  return new Promise((resolve) => {
    let answer: string | null = null;
    form.onsubmit = (event) => {
      event.preventDefault();
      answer = input.value.trim();
      dialog.close();
    };
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
    input.select();
  });
}

/** Buttons that say cancel close the dialog that they stand in. */
export function wireCancelButtons(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>('dialog button[value="cancel"]')) {
    button.addEventListener("click", () => button.closest("dialog")?.close());
  }
}
