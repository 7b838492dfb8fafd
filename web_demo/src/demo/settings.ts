// The dialog with model, instructions and sampling, and the switches that are always in sight: transport, theme.

import type { Client } from "../api/client.js";
import type { TransportName } from "../api/transport.js";
import type { Model, Page } from "../api/types.js";
import { byId, onClick } from "./dom.js";
import { choices, choose, chooseTransport, requestFields, transport, type Choices } from "./preferences.js";
import { switchTheme } from "./theme_switch.js";

const SUGGESTIONS = ["When are you open on Saturday?", "How much is express shipping?", "Do you take PayPal?"];

export class Settings {
  readonly #dialog = byId<HTMLDialogElement>("settings");
  readonly #form = byId<HTMLFormElement>("settings-form");
  readonly #error = byId("settings-error");
  readonly #served = byId("served");
  #models: Model[] = [];

  constructor(private readonly client: Client) {
    onClick("settings-open", () => this.#open());
    onClick("theme", switchTheme);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    for (const radio of byId("transport").querySelectorAll("input")) {
      radio.checked = radio.value === transport();
      radio.addEventListener("change", () => chooseTransport(radio.value as TransportName));
    }
  }

  /** Asks which models there are. `suggest` is called when one is pressed of the questions that the shipped one knows. */
  async load(suggest: (text: string) => void): Promise<void> {
    this.#models = (await this.client.get<Page<Model>>("/v1/models")).data;
    const { model = "", ...others } = choices();
    const known = this.#models.some(({ id }) => id === model);
    if (model && !known) choose(others); // the server serves other models than last time
    this.#served.textContent = known ? model : (this.#models[0]?.id ?? "");
    if (!this.#models.some(({ id }) => id.startsWith("frontdesk-"))) return;
    const buttons = SUGGESTIONS.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => suggest(text));
      return button;
    });
    byId("suggestions").replaceChildren(...buttons);
  }

  #open(): void {
    const chosen = choices();
    const model = this.#field("model") as HTMLSelectElement;
    model.replaceChildren(...this.#models.map(({ id }) => new Option(id)));
    for (const field of this.#fields()) field.value = chosen[field.name as keyof Choices] ?? "";
    if (!model.value) model.selectedIndex = 0;
    this.#error.textContent = "";
    this.#dialog.showModal();
  }

  #save(): void {
    const chosen = Object.fromEntries(this.#fields().map((field) => [field.name, field.value])) as Choices;
    try {
      requestFields(chosen);
    } catch {
      this.#error.textContent = "The further fields should be one JSON object, such as {\"min_p\": 0.05}.";
      this.#field("extra").focus();
      return;
    }
    choose(chosen);
    this.#served.textContent = chosen.model ?? "";
    this.#dialog.close();
  }

  #fields(): (HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement)[] {
    return [...this.#form.querySelectorAll<HTMLInputElement>("input, select, textarea")];
  }

  #field(name: string): HTMLElement {
    return this.#form.elements.namedItem(name) as HTMLElement;
  }
}
