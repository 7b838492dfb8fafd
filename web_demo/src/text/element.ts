// Makes an element, which every page does, and says how long a double click takes.

/** Milliseconds within which a click may be the second half of another, which was meant for what stood there before. */
export const DOUBLE_CLICK_MS = 500;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}
