// Dark or light before the first paint. Its own small script, which the page's head waits for: nothing may flash.

try {
  const chosen = localStorage.getItem("frontdesk.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset["theme"] = chosen;
} catch {
  // The browser forbids storage, so nothing was chosen.
}
