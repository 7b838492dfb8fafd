// Code blocks: a bar with the language and a copy button, and colours.
//
// The highlighter knows what most languages share (comments, strings, numbers, common keywords) and no language: it is
// sixty lines instead of a package, and wrong colours harm nobody.

const KEYWORDS = new Set(
  (
    "and as async await bool break case catch class const continue def default del do done elif else enum esac except " +
    "export extends extern false False fi final finally fn for from func function go if impl import in int interface " +
    "is lambda let loop match mod mut new nil None not null or package pass print private protected pub public raise " +
    "return select self static string struct super switch then this throw true True try type typeof undefined union " +
    "unsafe use var void where while with yield SELECT FROM WHERE INSERT INTO UPDATE DELETE JOIN ON GROUP ORDER BY " +
    "CREATE TABLE AND OR NOT NULL"
  ).split(" "),
);
const HASH_COMMENTS = new Set(["", "bash", "sh", "shell", "python", "py", "ruby", "rb", "yaml", "yml", "toml", "r"]);
const SLASHES = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
const REST = String.raw`("(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|` + "`(?:\\\\.|[^`\\\\])*`?" + String.raw`)|(\b\d[\w.]*)|([A-Za-z_$][\w$]*)`;
const WITH_HASH = new RegExp(String.raw`(#[^\n]*|--[^\n]*)|${REST}`, "g");
const WITH_SLASHES = new RegExp(String.raw`(${SLASHES})|${REST}`, "g");
const LONGEST = 20_000; // characters; longer code stays plain

/** Puts every code block below `root` into a frame with a copy button, and colours it. */
export function dressCode(root: ParentNode, announce: (text: string) => void): void {
  for (const pre of root.querySelectorAll("pre")) {
    const code = pre.querySelector("code") ?? pre;
    const language = code.className;
    const text = code.textContent ?? "";
    pre.tabIndex = 0; // so that a keyboard can scroll it
    if (text.length <= LONGEST) code.replaceChildren(...coloured(text, language));
    const frame = document.createElement("div");
    frame.className = "code";
    const bar = document.createElement("div");
    bar.className = "code-bar";
    const name = document.createElement("span");
    name.textContent = language || "text";
    bar.append(name, copyButton(text, announce));
    pre.replaceWith(frame);
    frame.append(bar, pre);
  }
}

function copyButton(text: string, announce: (text: string) => void): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const worked = await copy(text);
    button.textContent = worked ? "Copied" : "Not allowed";
    announce(button.textContent);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

/** Whether the clipboard took it. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyAsBefore(text);
  }
}

/** Pages that came over plain HTTP from another machine have no `navigator.clipboard`. */
function copyAsBefore(text: string): boolean {
  let taken = false;
  const put = (event: ClipboardEvent): void => {
    event.clipboardData?.setData("text/plain", text);
    event.preventDefault();
    event.stopImmediatePropagation();
    taken = true;
  };
  addEventListener("copy", put, { capture: true });
  const worked = document.execCommand("copy");
  removeEventListener("copy", put, { capture: true });
  return worked && taken;
}

function coloured(text: string, language: string): Node[] {
  const pattern = HASH_COMMENTS.has(language) || language === "sql" ? WITH_HASH : WITH_SLASHES;
  const nodes: Node[] = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    const [word, comment, string, number, name] = match;
    const kind = comment ? "c" : string ? "s" : number ? "n" : name && KEYWORDS.has(name) ? "k" : "";
    if (!kind) continue;
    nodes.push(document.createTextNode(text.slice(at, match.index)));
    const span = document.createElement("span");
    span.className = `hl-${kind}`;
    span.textContent = word;
    nodes.push(span);
    at = match.index + word.length;
  }
  nodes.push(document.createTextNode(text.slice(at)));
  return nodes;
}
