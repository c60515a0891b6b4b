"""The two HTML pages: the live one, whose answers come over HTTP, and the static one, which holds its data itself.

Data is never HTML: it is one JSON block, escaped so that no token can end it, and the script writes text nodes only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import lru_cache
from importlib import resources

from foveate.apps.security import content_policy

# After the first visit the token lives in a cookie; this takes it out of the address bar.
ADDRESS_SCRIPT = 'if (location.search) history.replaceState(null, "", location.pathname + location.hash);'

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
"""
_BODY = """<body>
<div id="foveate"><noscript>This page computes and draws attention with JavaScript: switch it on.</noscript></div>
"""


def script_hash(script: str) -> str:
    """The content security policy's name for an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


ADDRESS_SCRIPT_HASH = script_hash(ADDRESS_SCRIPT)


def escape_json(text: str) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or the line."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def live() -> str:
    """The page of a running server."""
    return served('{"transport":"http"}', "foveate")


def served(data: str, title: str, name: str = "foveate") -> str:
    """As `static`, with script and style to be asked of the server that gives out the page."""
    return (
        f'{_HEAD}<title>{_safe(title)}</title>\n<link rel="icon" href="data:,">\n'
        f'<link rel="stylesheet" href="/static/{name}.css">\n</head>\n{_BODY}'
        f"<script>{ADDRESS_SCRIPT}</script>\n"
        f'<script type="application/json" id="foveate-data">{escape_json(data)}</script>\n'
        f'<script src="/static/{name}.js"></script>\n</body>\n</html>\n'
    )


def static(data: str, title: str, name: str = "foveate") -> str:
    """A page in one file: JSON, not yet escaped, for the script and style that are built under `name`."""
    script, style = assets(name)
    policy = content_policy(scripts=script_hash(script), styles=script_hash(style), connect="'none'")
    return (
        f'{_HEAD}<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        f'<title>{_safe(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{style}</style>\n</head>\n{_BODY}"
        f'<script type="application/json" id="foveate-data">{escape_json(data)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _safe(title: str) -> str:
    return html.escape(title.encode("utf-8", "replace").decode())


@lru_cache(maxsize=2)
def assets(name: str = "foveate") -> tuple[str, str]:
    """The built script and style, fit to stand inside their elements."""
    folder = resources.files("foveate.apps") / "static"
    script = (folder / f"{name}.js").read_text(encoding="utf-8")
    style = (folder / f"{name}.css").read_text(encoding="utf-8")
    script = re.sub(r"<(/script|!--|script)", r"\\x3c\1", script, flags=re.IGNORECASE)
    if re.search("</style", style, flags=re.IGNORECASE):
        raise ValueError("the built style must not contain an end tag")
    return script, style
