// Builds the page into the Python package, or checks that what is there is what this source builds.
//   node build.mjs            write src/foveate/apps/static/foveate.{js,css}
//   node build.mjs --check    build in memory and compare; writes nothing
//   node build.mjs --tests    bundle the unit tests for `node --test`
//   node build.mjs --dev      bundle the page generator of web/dev
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../src/foveate/apps/static");
const names = ["foveate.js", "foveate.css"];

function sourceHash() {
  // sha256 over "path\0content\0" of every file of src in path order; a test in Python does the same, without Node.
  const hash = createHash("sha256");
  const files = readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(here.length + 1).replaceAll("\\", "/"))
    .sort();
  for (const file of files) hash.update(`${file}\0${readFileSync(join(here, file), "utf8")}\0`);
  return hash.digest("hex");
}

async function page() {
  const banner = `/* foveate page, built from web/src; do not edit. source sha256 ${sourceHash()} */`;
  const result = await build({
    absWorkingDir: here,
    entryPoints: { foveate: "src/main.ts", "foveate-css": "src/foveate.css" },
    outdir: target,
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: ["es2022", "chrome109", "firefox115", "safari16.4"],
    charset: "ascii",
    legalComments: "none",
    banner: { js: banner, css: banner },
  });
  return result.outputFiles
    .map((file) => ({ name: file.path.endsWith(".css") ? "foveate.css" : "foveate.js", text: file.text }))
    .sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
}

async function bundle(entry, out) {
  await build({
    absWorkingDir: here, entryPoints: [entry], outfile: join("build", out), bundle: true, platform: "node", format: "esm",
    target: "node20", logLevel: "warning",
  });
}

const mode = process.argv[2];
if (mode === "--tests") await bundle("tests/all.test.ts", "tests.mjs");
else if (mode === "--dev") await bundle("dev/make.ts", "dev.mjs");
else {
  const files = await page();
  if (mode === "--check") {
    for (const { name, text } of files) {
      let present = "";
      try { present = readFileSync(join(target, name), "utf8"); } catch { /* a missing file differs */ }
      if (present !== text) {
        console.error(`src/foveate/apps/static/${name} is not what web/src builds; run \`npm run build\` in web/`);
        process.exit(1);
      }
    }
    console.log("the built page is that of the source");
  } else {
    mkdirSync(target, { recursive: true });
    for (const { name, text } of files) {
      writeFileSync(join(target, name), text);
      console.log(`${name} ${(Buffer.byteLength(text) / 1000).toFixed(1)} kB`);
    }
  }
}
