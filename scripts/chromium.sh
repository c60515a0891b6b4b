#!/bin/sh
# Make sure that a Chromium is there for the browser tests; where none can be had, they are skipped by name.
[ -n "$FOVEATE_CHROMIUM" ] && exit 0
command -v chromium >/dev/null 2>&1 && exit 0
command -v chromium-browser >/dev/null 2>&1 && exit 0
command -v google-chrome >/dev/null 2>&1 && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing Chromium for the browser tests ..."
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1
fi
command -v chromium >/dev/null 2>&1 || echo "no Chromium here: the browser tests will be skipped"
exit 0
