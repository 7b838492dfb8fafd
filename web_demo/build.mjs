// The one build step: src/ to dist/. The same sources give the same bytes, so dist/ is committed and can be checked.
//
//   node build.mjs [folder]     writes to dist/, or to the folder that is named

import { cpSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const out = process.argv[2] ?? join(root, "dist");
const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  target: "es2022",
  charset: "utf8",
  legalComments: "eof",
  logLevel: "warning",
};

// The widget brings its style inside its script: a page that embeds it loads one file.
const styleAsText = {
  name: "style-as-text",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true, charset: "utf8" });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

// Of marked the pages use its lexer, parser and renderer, but not its front door (options, hooks, extensions, promises)
// nor what lies behind options that they never set. No tree shaking removes either, and both would be an eighth of the
// widget. A release that is put together differently fails the build here.
const NEVER_SET = /\bthis\.options\.(?:breaks|extensions|hooks|pedantic|silent)\b/g;
const RULES_NEVER_USED = /,(?:breaks|pedantic):\w+/g;

/** Takes one entry, `,pedantic:name`, out of a list of rules, and the object of that name. */
function withoutRules(text, entry) {
  const object = new RegExp(`\\b${entry.split(":")[1]}=\\{[^]*?\\.getRegex\\(\\)\\},`);
  if (!object.test(text)) throw new Error(`marked has no rules that this build expects as ${entry}`);
  return text.replace(entry, "").replace(object, "");
}

const markedWithoutFrontDoor = {
  name: "marked-without-front-door",
  setup({ onLoad }) {
    onLoad({ filter: /marked\.esm\.js$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      const [, before, names] = /^([^]*)\bvar \w+=class\{defaults=[^]*;export\{([^}]*)\};/.exec(text) ?? [];
      const kept = names?.split(",").filter((name) => /as (Lexer|Parser|Renderer)$/.test(name)) ?? [];
      const rules = before?.match(RULES_NEVER_USED) ?? [];
      if (kept.length !== 3 || rules.length !== 3) throw new Error(`${path} is not what this build expects`);
      const contents = rules.reduce(withoutRules, before.replace(NEVER_SET, "null"));
      return { contents: `${contents}export{${kept}};`, loader: "js" };
    });
  },
};

// DOMPurify's file brings a helper of its compiler that nothing in it calls, but that no tree shaking removes. Of DOMPurify
// itself nothing is taken away.
const purifyWithoutLeftOver = {
  name: "purify-without-left-over",
  setup({ onLoad }) {
    onLoad({ filter: /purify\.es\.mjs$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      const contents = text.replace(/^function AsyncGenerator\b[^]*?(?=^const )/m, "");
      const found = contents !== text && !contents.includes("AsyncGenerator");
      if (!found) throw new Error(`${path} is not what this build expects`);
      return { contents, loader: "js" };
    });
  },
};

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  ...common,
  // Pairs, as a page's script and its style have one name.
  entryPoints: [
    { in: "src/demo/main.ts", out: "demo" },
    { in: "src/demo/theme.ts", out: "theme" },
    { in: "src/demo/style.css", out: "style" },
    { in: "src/admin/main.ts", out: "admin" },
    { in: "src/admin/style.css", out: "admin" },
    { in: "src/shop/main.ts", out: "shop" },
    { in: "src/shop/style.css", out: "shop" },
  ],
  format: "esm",
  outdir: out,
  plugins: [markedWithoutFrontDoor, purifyWithoutLeftOver],
});
await build({
  ...common,
  entryPoints: ["src/widget/script.ts"],
  format: "iife",
  outfile: join(out, "widget.js"),
  plugins: [styleAsText, markedWithoutFrontDoor, purifyWithoutLeftOver],
});
await build({
  ...common,
  entryPoints: ["src/widget/module.ts"],
  format: "esm",
  outfile: join(out, "widget.mjs"),
  plugins: [styleAsText, markedWithoutFrontDoor, purifyWithoutLeftOver],
});
cpSync(join(root, "src/demo/index.html"), join(out, "index.html"));
cpSync(join(root, "src/admin/admin.html"), join(out, "admin.html"));
cpSync(join(root, "src/shop/shop.html"), join(out, "shop.html"));
