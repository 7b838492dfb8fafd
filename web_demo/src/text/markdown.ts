// Markdown of a model to DOM that is safe to show. A model's text is an attacker's text: whoever wrote a page or a
// message that the model read may speak through it.
//
// Three walls: raw HTML is shown as text, images become links (a remote image would carry data away by being loaded),
// and DOMPurify lets through nothing but the elements listed here. And no text may take long: some make every parser
// slow or overflow its stack; those are shown as they are. Knows no page and no stream.

import DOMPurify from "dompurify";
import { Lexer, Marked, type Token } from "marked";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong", "table",
  "tbody", "td", "th", "thead", "tr", "ul",
]; // prettier-ignore
const RULES = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|tel:)/i,
};
const FIRST_HEADING = 3; // a message stands under the page's own headings
const LONGEST_LINE = 3000; // characters that are searched for emphasis and links, which takes time by their square
const LANGUAGE = /^[a-z0-9+#-]{1,20}$/;

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "image")}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const level = Math.min(depth + FIRST_HEADING - 1, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    code: ({ text, lang }) => {
      const language = (lang ?? "").trim().split(/\s/)[0]?.toLowerCase() ?? "";
      const name = LANGUAGE.test(language) ? ` class="${language}"` : "";
      return `<pre><code${name}>${escaped(text)}</code></pre>`;
    },
  },
});

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

/** The sources of a text's blocks: paragraphs, lists, code … A fence that is not closed yet reaches to the end. */
export function blocksOf(text: string): string[] {
  try {
    const blocks = new CarefulLexer(marked.defaults).blockTokens(text.replaceAll("\r\n", "\n"), []);
    return blocks.filter(({ type }) => type !== "space" && type !== "def").map(({ raw }) => raw);
  } catch {
    return [text]; // nested too deep
  }
}

/** One block as DOM. */
export function rendered(block: string): Node {
  try {
    const html = marked.parser(new CarefulLexer(marked.defaults).lex(block));
    return purify.sanitize(html, { ...RULES, RETURN_DOM_FRAGMENT: true });
  } catch {
    const plain = document.createElement("p");
    plain.textContent = block;
    return plain;
  }
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
