// widget.js: one script tag and nothing else. What stands on the tag as data-… becomes an attribute of the element, which
// is put at the end of the page.

import { ATTRIBUTES, define, TAG } from "./element.js";

const script = document.currentScript;
if (script instanceof HTMLScriptElement) {
  define(script.src);
  if (script.dataset["widget"]) {
    const chat = document.createElement(TAG);
    chat.setAttribute("server", new URL(script.src).origin);
    for (const name of ATTRIBUTES) {
      const value = script.dataset[name];
      if (value !== undefined) chat.setAttribute(name, value);
    }
    const place = (): void => document.body.append(chat);
    if (document.body) place();
    else document.addEventListener("DOMContentLoaded", place, { once: true });
  }
}
