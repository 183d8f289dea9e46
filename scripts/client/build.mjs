// Makes what is published.
//     node build.mjs [FOLDER]      the package for npm, into that folder; dist/ if none is given
//     node build.mjs --served [FILE]      the one file that the gateway serves as /client/deltawire.js
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const options = {
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  banner: { js: "// deltawire, made from scripts/client by `npm run served`. MIT licence." },
};

const [first, second] = process.argv.slice(2);
if (first === "--served") {
  const outfile = second ?? `${here}../../gateway/server/http/deltawire.js`;
  await build({ ...options, entryPoints: [`${here}src/index.ts`], outfile, minify: true });
} else {
  await pack(first ?? `${here}dist`);
}

async function pack(folder) {
  rmSync(folder, { recursive: true, force: true });
  await build({
    ...options,
    entryPoints: { deltawire: `${here}src/index.ts`, react: `${here}src/react.ts` },
    outdir: folder,
    external: ["react"],
    plugins: [{ name: "one copy", setup: shareCore }],
  });
  const tsc = fileURLToPath(import.meta.resolve("typescript/package.json")).replace("package.json", "bin/tsc");
  const types = ["--noEmit", "false", "--emitDeclarationOnly", "--declaration", "--rootDir", `${here}src`];
  const project = [tsc, "--project", `${here}tsconfig.build.json`, ...types, "--outDir", folder];
  execFileSync(process.execPath, project, { stdio: "inherit" });
}

/** Lets react.js import the core from deltawire.js, where a program that uses both has it already. */
function shareCore(builder) {
  builder.onResolve({ filter: /^\.\/index\.ts$/ }, () => ({ path: "./deltawire.js", external: true }));
}
