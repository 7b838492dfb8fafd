// The sample shop: puts the widget on the page, as a shop would with one script tag. Whose chat it is stands in the
// page's address, ?server=https://chat.example&widget=wgt_…; further ones, such as lang=de, go to the tag as they are.
//
// An address can be anybody's, and the server that it names runs a script here. So it may name any on one's own machine
// alone; elsewhere the server is written into the page, <html data-server="https://chat.example">, or is the page's own.
//
// The tag is made here only because this page has to serve every server; a shop writes it into its page.

const QUESTIONS = ["When are you open on Saturday?", "How much is express shipping?", "How long is the warranty?"];
const FURTHER = ["lang", "dir", "title", "greeting", "questions", "theme", "transport", "open"];
const WIDGET = /^wgt_[0-9a-f]{12}$/;
const LOOPBACK = /^((.+\.)?localhost|127(\.\d+){3}|\[::1\])$/;

const asked = new URLSearchParams(location.search);
const local = LOOPBACK.test(location.hostname);
const server = serverOf(document.documentElement.dataset["server"], originOf(asked.get("server") ?? ""));
const widget = asked.get("widget") ?? "";
if (server && WIDGET.test(widget)) embed(server, widget);
else explain();

function embed(server: string, widget: string): void {
  const script = document.createElement("script");
  script.dataset["widget"] = widget;
  script.dataset["questions"] = JSON.stringify(QUESTIONS);
  for (const name of FURTHER) if (asked.has(name)) script.dataset[name] = asked.get(name) ?? "";
  if (asked.has("dir")) document.documentElement.dir = asked.get("dir") ?? "";
  script.addEventListener("error", () => explain(`The widget could not be loaded from ${server}.`));
  script.src = trusted(`${server}/widget.js`);
  document.head.append(script);
}

function explain(problem = ""): void {
  const own = location.origin;
  text("setup-command", `frontdesk widgets create shop --origin ${own}`);
  const inAddress = server && !document.documentElement.dataset["server"];
  const named = local ? `server=${server || likelyServer()}&` : inAddress ? `server=${server}&` : "";
  text("setup-address", `${own}${location.pathname}?${named}widget=wgt_…`);
  text("setup-own", `server=${own}&`);
  show("setup-server", !local && !server);
  text("setup-problem", problem);
  show("setup", true);
}

/** The server whose widget may be shown: `written` into the page, or named by its address where that can be trusted. */
function serverOf(written: string | undefined, named: string): string {
  if (written) return originOf(written);
  return local || named === location.origin ? named : "";
}

/** This server under the machine's other name, which to a browser is another origin. */
function likelyServer(): string {
  const twin = { localhost: "127.0.0.1", "127.0.0.1": "localhost" }[location.hostname];
  return twin ? location.origin.replace(location.hostname, twin) : "https://chat.example";
}

/** The origin of an address that a script may come from; "" for anything else. */
function originOf(address: string): string {
  if (!/^https?:\/\//.test(address) || !URL.canParse(address)) return "";
  return new URL(address).origin;
}

/** Where the page's policy demands that scripts' addresses are vouched for: the policy itself says which are allowed. */
function trusted(address: string): string {
  const policy = window.trustedTypes?.createPolicy("shop", { createScriptURL: (url) => url });
  return (policy?.createScriptURL(address) as string | undefined) ?? address;
}

function show(id: string, shown: boolean): void {
  const found = document.getElementById(id);
  if (found) found.hidden = !shown;
}

function text(id: string, value: string): void {
  const found = document.getElementById(id);
  if (found) found.textContent = value;
}

export {};
