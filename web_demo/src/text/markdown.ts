// Markdown of a model to DOM that is safe to show. A model's text is an attacker's text: whoever wrote a page or a
// message that the model read may speak through it.
//
// Three walls: raw HTML is shown as text, images become links (a remote image would carry data away by being loaded),
// and DOMPurify lets through nothing but the elements listed here. And no text may take long: some make every parser
// slow or overflow its stack; those are shown as they are, as is all on a page that enforces Trusted Types and does not
// list this policy. Nothing may disappear either: the definition of a link, which markdown hides, is shown. Knows no page
// and no stream.

import DOMPurify from "dompurify";
import { Lexer, Parser, Renderer, type Links, type MarkedOptions, type Token, type Tokens } from "marked";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong", "table",
  "tbody", "td", "th", "thead", "tr", "ul",
]; // prettier-ignore
const ADDRESS = /^(?:https?:|mailto:|tel:)/i;
const POLICY = "frontdesk"; // of Trusted Types; not DOMPurify's own name, which the page's own DOMPurify may want
const RULES = {
  TRUSTED_TYPES_POLICY: policy(),
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: ADDRESS,
  ADD_URI_SAFE_ATTR: ["start"], // a number, not an address
};
const FIRST_HEADING = 3; // a message stands under the page's own headings
const LONGEST_LINE = 3000; // characters that are searched for emphasis and links, which takes time by their square
const LANGUAGE = /^[a-z0-9+#-]{1,20}$/;
const LABEL = /\[((?:\\[^]|[^\[\]\\])+)\]/g; // of a link that is defined elsewhere

/** A part of a text that can be drawn without the rest. */
export interface Block {
  source: string;
  /** Those definitions of the whole text that the block may refer to. */
  links: Links;
  /** The same for blocks that look the same. */
  key: string;
}

class SafeRenderer extends Renderer {
  override html({ text }: Tokens.HTML | Tokens.Tag): string {
    return escaped(text);
  }

  override image({ href, text }: Tokens.Image): string {
    return `<a href="${escaped(href)}">${escaped(text || "image")}</a>`;
  }

  override checkbox({ checked }: Tokens.Checkbox): string {
    return checked ? "☑ " : "☐ ";
  }

  override heading({ tokens, depth }: Tokens.Heading): string {
    const level = Math.min(depth + FIRST_HEADING - 1, 6);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
  }

  override code({ text, lang }: Tokens.Code): string {
    const language = (lang ?? "").trim().split(/\s/)[0]?.toLowerCase() ?? "";
    const name = LANGUAGE.test(language) ? ` class="${language}"` : "";
    return `<pre><code${name}>${escaped(text)}</code></pre>`;
  }

  override def({ raw, href }: Tokens.Def): string {
    const address = escaped(href);
    return `<p>${escaped(raw.trim()).replace(address, () => `<a href="${address}">${address}</a>`)}</p>`;
  }
}

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener nofollow ugc");
  }
  if (node.tagName !== "CODE") node.removeAttribute("class");
});

class CarefulLexer extends Lexer {
  override inlineTokens(text: string, tokens: Token[] = []): Token[] {
    if (text.length <= LONGEST_LINE) return super.inlineTokens(text, tokens);
    tokens.push({ type: "text", raw: text, text });
    return tokens;
  }
}

/** Fresh ones each time: lexer and parser put their own tools into them. */
function options(): MarkedOptions {
  return { gfm: true, renderer: new SafeRenderer() };
}

/** A text's blocks: paragraphs, lists, code … A fence that is not closed yet reaches to the end. */
export function blocksOf(text: string): Block[] {
  try {
    const lexer = new CarefulLexer(options());
    const blocks = lexer.blockTokens(text.replaceAll("\r\n", "\n"), []);
    return blocks.filter(({ type }) => type !== "space").map(({ raw }) => blockOf(raw, lexer.tokens.links));
  } catch {
    return [blockOf(text, {})]; // nested too deep
  }
}

function blockOf(source: string, defined: Links): Block {
  const links: Links = Object.create(null);
  for (const [, label = ""] of source.matchAll(LABEL)) {
    const name = label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase().toLowerCase(); // as the lexer does it
    const link = defined[name];
    if (link && ADDRESS.test(link.href)) links[name] = link;
  }
  const known = Object.entries(links);
  return { source, links, key: known.length ? source + JSON.stringify(known) : source };
}

let mayParse = true; // markup; each attempt where the page forbids it would be a report to whoever keeps the page

/** One block as DOM. */
export function rendered({ source, links }: Block): Node {
  try {
    if (!mayParse) return plain(source);
    const lexer = new CarefulLexer(options());
    Object.assign(lexer.tokens.links, links);
    const html = Parser.parse(lexer.lex(source), options());
    const safe = purify.sanitize(html, { ...RULES, RETURN_DOM_FRAGMENT: true }) as DocumentFragment | null;
    mayParse = safe !== null;
    return safe ?? plain(source);
  } catch {
    return plain(source);
  }
}

/** Null where the browser knows no such thing, and where the page does not allow this one. */
function policy(): TrustedTypePolicy | null {
  const same = (text: string): string => text;
  try {
    const made = window.trustedTypes?.createPolicy(POLICY, { createHTML: same, createScriptURL: same });
    return (made as TrustedTypePolicy | undefined) ?? null;
  } catch {
    return null;
  }
}

function plain(text: string): Node {
  const shown = document.createElement("p");
  shown.textContent = text;
  return shown;
}

/** A text as it is said: without the marks of markdown, and with everything that only looks like one. */
export function spoken(text: string): string {
  try {
    return new CarefulLexer(options()).lex(text).map(said).join("\n");
  } catch {
    return text;
  }
}

function said(token: Token): string {
  if (token.type === "list") {
    const { items, start } = token as Tokens.List;
    const number = (at: number): string => (start === "" ? "" : `${start + at}. `);
    return items.map(({ tokens }, at) => number(at) + tokens.map(said).join("")).join("\n");
  }
  if (token.type === "table") {
    const { header, rows } = token as Tokens.Table;
    return [header, ...rows].map((row) => row.map(({ tokens }) => tokens.map(said).join("")).join(", ")).join("\n");
  }
  const { raw, text, tokens } = token as Tokens.Generic;
  return tokens ? tokens.map(said).join("") : (text ?? raw);
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
