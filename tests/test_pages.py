"""The wait that tests of the page rely on: it ends when nothing is under way any more, or says what does not end."""

from __future__ import annotations

from typing import Any

import pytest

import pages
from pages import CHROMIUM, settled, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install one, or set FOVEATE_CHROMIUM"),
]
KINDS = {  # what a page may wait for
    "requests": "fetch('data:,a')",
    "answers": "new Response(new Blob([new Uint8Array(1e6)]).stream()).arrayBuffer()",
    "pictures": "drawn.then((blob) => createImageBitmap(blob))",
    "frames": "frame()",
    "timers": "new Promise((go) => setTimeout(go, 70))",
    "messages": "message()",
    "observers": "new Promise((go) => new ResizeObserver(go).observe(document.body)).then(frame)",
}
PAGE = """<script>
const frame = () => new Promise((go) => requestAnimationFrame(go));
const message = () => new Promise((go) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = go;
    port2.postMessage(0);
});
const canvas = new OffscreenCanvas(600, 600), ink = canvas.getContext("2d"), drawn = canvas.convertToBlob();
async function act() {
    for (const end = performance.now() + 300; performance.now() < end;) await STEP;
    document.title = "over";
}
</script>"""


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_for(kind: str, tab: Any) -> None:
    tab.goto(f"data:text/html,{PAGE.replace('STEP', KINDS[kind])}")
    tab.evaluate("drawn.then(() => void act())")
    settled(tab)
    assert tab.title() == "over"


def test_what_was_taken_back_is_not_waited_for(tab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tab.goto("data:text/html,<p>")
    tab.evaluate("""() => {
        const again = () => { window.frame = requestAnimationFrame(again); window.timer = setTimeout(() => {}, 90); };
        again();
    }""")
    with monkeypatch.context() as patch:
        patch.setattr(pages, "PATIENCE", 0.3)
        with pytest.raises(Exception, match=r"the page does not come to rest: .*a frame"):
            settled(tab)
    tab.evaluate("() => { cancelAnimationFrame(window.frame); clearTimeout(window.timer); }")
    settled(tab)


def test_until_says_what_was_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter("abc")
    until(lambda: next(seen), "c")
    monkeypatch.setattr(pages, "PATIENCE", 0)
    with pytest.raises(AssertionError, match="it does not become 'd'; the last that was read is 'c'"):
        until(lambda: "c", "d")
