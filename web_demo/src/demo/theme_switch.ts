// Dark or light, as the person in front of this browser wants it. theme.ts sets it again before the next first paint.

import { browser } from "./preferences.js";

const THEME = "frontdesk.theme";

/** From what is seen now to the other one. */
export function switchTheme(): void {
  const root = document.documentElement;
  const dark = root.dataset["theme"] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset["theme"] = dark === "dark" ? "light" : "dark";
  browser.set(THEME, root.dataset["theme"]);
}
