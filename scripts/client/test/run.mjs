// Runs the tests beside this file. Node.js below 22.18 can't read TypeScript, so esbuild makes JavaScript of them.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const made = mkdtempSync(`${here}../node_modules/.test-`);
try {
  const names = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
  await build({
    entryPoints: names.map((name) => here + name),
    outdir: made,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    sourcemap: "inline",
  });
  const files = readdirSync(made).map((name) => `${made}/${name}`);
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", ...process.execArgv, "--test", ...files], {
    stdio: "inherit",
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(made, { recursive: true });
}
