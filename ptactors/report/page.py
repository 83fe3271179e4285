"""What every HTML page has: one file, a Content-Security-Policy that allows no request, and nothing of the input unescaped.

Text goes through jinja2 with autoescape on; data goes into a JSON block without ``<``, ``>`` and ``&``; scripts and styles are
the package's own files and are named in the policy by their hashes. The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import orjson
from markupsafe import Markup

_HERE = Path(__file__).parent
_WIDEST = 160
"""Longest name or text that a page shows whole."""


def clip(text: object, width: int = _WIDEST) -> str:
    """The text, or so much of it that names which differ still differ."""
    whole = str(text)
    if len(whole) <= width:
        return whole
    return f"{whole[: width - 10]}…{zlib.crc32(whole.encode('utf-8', 'replace')):08x}"


def embed(data: Any) -> Markup:
    """Data as JSON that can stand in a ``<script type="application/json">`` of any page."""
    text = orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(names: Sequence[str]) -> str:
    return "\n".join((_HERE / "static" / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere; one style and one script, those of these very bytes, are allowed."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def render(template: str, *, styles: Sequence[str], scripts: Sequence[str], data: Any, **context: Any) -> str:
    """The finished page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clip"] = clip
    style, script = _asset(styles), _asset(scripts)
    return environment.get_template(template).render(
        policy=_policy(style, script), style=Markup(style), script=Markup(script), data=embed(data), **context
    )
