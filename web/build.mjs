// Builds the page into the Python package, or checks that what is there is what this source builds.
//   node build.mjs            write src/foveate/apps/static/foveate.{js,css}, foveate-survey.{js,css} and foveate-widget.js
//   node build.mjs --check    build in memory and compare; writes nothing
//   node build.mjs --tests    bundle the unit tests for `node --test`
//   node build.mjs --dev      bundle the page generator of web/dev
import { build, transform } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../src/foveate/apps/static");
const names = ["foveate.js", "foveate.css", "foveate-widget.js", "foveate-survey.js", "foveate-survey.css"];
const browsers = ["es2022", "chrome109", "firefox115", "safari16.4"];

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

// The widget is one module: its style is a text in it.
const styleAsText = {
  name: "style-as-text",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "css", minify: true, target: browsers });
      return { contents: code, loader: "text" };
    });
  },
};

// The report takes the page's colours and cards.
const bothStyles = { contents: '@import "./foveate.css"; @import "./survey/survey.css";', loader: "css", resolveDir: join(here, "src") };

async function page() {
  const banner = `/* foveate page, built from web/src; do not edit. source sha256 ${sourceHash()} */`;
  const options = {
    absWorkingDir: here, outdir: target, bundle: true, minify: true, write: false, target: browsers, charset: "ascii",
    legalComments: "none", banner: { js: banner, css: banner },
  };
  const built = await Promise.all([
    build({ ...options, entryPoints: { foveate: "src/main.ts" }, format: "iife" }),
    build({ ...options, entryPoints: { foveate: "src/foveate.css" } }),
    build({ ...options, entryPoints: { "foveate-survey": "src/survey/main.ts" }, format: "iife" }),
    build({ ...options, outdir: undefined, outfile: join(target, "foveate-survey.css"), stdin: bothStyles }),
    build({ ...options, entryPoints: { "foveate-widget": "src/widget.ts" }, format: "esm", plugins: [styleAsText] }),
  ]);
  return built
    .flatMap(({ outputFiles }) => outputFiles)
    .map((file) => ({ name: basename(file.path), text: file.text }))
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
