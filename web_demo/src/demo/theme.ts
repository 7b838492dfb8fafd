// Dark or light before the first paint. Its own small script, which the page's head waits for: nothing may flash.

{
  const chosen = localStorage.getItem("frontdesk.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset["theme"] = chosen;
}
