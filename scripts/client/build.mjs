// Makes what is published.
//     node build.mjs [FOLDER]      into that folder; dist/ if none is given
//     node build.mjs --served      into dist/, and the one file that the gateway serves as /client/deltawire.js
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const [argument] = process.argv.slice(2);
const isServed = argument === "--served";
const dist = isServed || argument === undefined ? `${here}dist` : argument;
const served = `${here}../../gateway/server/http/deltawire.js`;
const banner = "// deltawire: made from scripts/client by `npm run served`. MIT licence.";

rmSync(dist, { recursive: true, force: true });
await build({
  entryPoints: { deltawire: `${here}src/index.ts`, react: `${here}src/react.ts` },
  outdir: dist,
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  banner: { js: banner },
  external: ["react"],
  plugins: [{ name: "one copy", setup: shareCore }],
});
const tsc = fileURLToPath(import.meta.resolve("typescript/package.json")).replace("package.json", "bin/tsc");
const types = ["--noEmit", "false", "--emitDeclarationOnly", "--declaration", "--rootDir", `${here}src`, "--outDir", dist];
execFileSync(process.execPath, [tsc, "--project", `${here}tsconfig.build.json`, ...types], { stdio: "inherit" });
if (isServed) {
  copyFileSync(`${dist}/deltawire.js`, served);
}

/** Lets react.js import the core from deltawire.js, where a program that uses both has it already. */
function shareCore(builder) {
  builder.onResolve({ filter: /^\.\/index\.ts$/ }, () => ({ path: "./deltawire.js", external: true }));
}
