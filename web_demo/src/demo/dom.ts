// Small helpers around the DOM: the page's fixed elements by id, new elements, icons.

import { element } from "../text/element.js";

/** The element of index.html with this id. Throws when the page and the script do not belong together. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found as T;
}

/** A button that shows an icon; `label` is its name for everybody who does not see it. */
export function iconButton(icon: string, label: string, act: () => void): HTMLButtonElement {
  const button = element("button", "ghost small", iconOf(icon));
  button.type = "button";
  button.ariaLabel = label;
  button.title = label;
  button.addEventListener("click", act);
  return button;
}

export function iconOf(name: string): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function onClick(id: string, act: () => void): void {
  byId(id).addEventListener("click", act);
}

/** Whether something lies above the page that Escape should close first. */
export function somethingOpen(): boolean {
  return document.querySelector("dialog[open], :popover-open") !== null;
}
