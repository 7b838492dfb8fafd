// Small helpers around the DOM: elements, buttons, icons. Everything is made by calls: no markup is ever parsed here, and
// no style stands in an attribute, so the strictest policy of the page around has nothing to refuse.

import { element } from "../text/element.js";

const SVG = "http://www.w3.org/2000/svg";

/** Paths in a box of 20 by 20, drawn as lines. */
export const ICONS = {
  chat: "M3.5 9.2c0-3.2 2.9-5.7 6.5-5.7s6.5 2.5 6.5 5.7-2.9 5.7-6.5 5.7c-.8 0-1.6-.1-2.3-.4L4.2 16l.8-2.9a5.3 5.3 0 0 1-1.5-3.9z",
  chevron: "M5 7.5l5 5 5-5",
  close: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  down: "M10 4v12M5 11l5 5 5-5",
  person: "M10 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM4 16.5c.7-2.7 3.1-4 6-4s5.3 1.3 6 4",
  plus: "M10 4.5v11M4.5 10h11",
  send: "M10 16V4.5M5 9.5l5-5 5 5",
  stop: "M6 6h8v8H6z",
} as const;

export type IconName = keyof typeof ICONS;

/** An element with a class; pages that embed the widget may style it as `::part(part)`. */
export function part<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  name: string,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = element(tag, name, ...children);
  made.setAttribute("part", name);
  return made;
}

export function icon(name: IconName): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(className: string, act: () => void, ...children: (Node | string)[]): HTMLButtonElement {
  const made = element("button", className, ...children);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/** Whether the focus is in this element. */
export function isFocused(place: Element): boolean {
  return place.contains((place.getRootNode() as ShadowRoot | Document).activeElement);
}

/** Text runs in its own direction. While there is none, in the panel's: `dir="auto"` means from the left then. */
export function direct(field: HTMLInputElement | HTMLTextAreaElement): void {
  field.dir = field.value ? "auto" : "";
}

/** A button that shows an icon; `label` is its name for everybody who does not see it. */
export function iconButton(className: string, name: IconName, label: string, act: () => void): HTMLButtonElement {
  const made = button(className, act, icon(name));
  made.ariaLabel = label;
  made.title = label;
  return made;
}
