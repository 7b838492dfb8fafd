// The one build step: src/ to dist/. The same sources give the same bytes, so dist/ is committed and can be checked.
//
//   node build.mjs [folder]     writes to dist/, or to the folder that is named

import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL(".", import.meta.url));
const out = process.argv[2] ?? join(root, "dist");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: { demo: "src/demo/main.ts", theme: "src/demo/theme.ts", style: "src/demo/style.css" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "eof",
  entryNames: "[name]",
  logLevel: "warning",
});
cpSync(join(root, "src/demo/index.html"), join(out, "index.html"));
