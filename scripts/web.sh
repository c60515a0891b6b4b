#!/bin/sh
# `build` the page from web/, or `check` that the built files are those of their source. Needs Node 20 or newer.
set -e
if ! command -v npm >/dev/null 2>&1; then
    echo "no Node here: the page's source was not touched (the built page ships with the package)"
    exit 0
fi
cd "$(dirname "$0")/../web"
[ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund
npm run --silent "$1"
