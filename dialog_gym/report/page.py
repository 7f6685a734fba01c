"""The file: style, scripts and data in one, under a policy that forbids the network and markup made of text.

The data are JSON, compressed, as base64: no text of a dialogue stands in the file as such, so none can end the element
it stands in. The page turns texts into text nodes alone (``text.js``); the policy (``require-trusted-types-for``) lets
the browser refuse everything else.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path

from dialog_gym import checkpoint
from dialog_gym.dialogue import Json

SCRIPTS = ("text.js", "charts.js", "board_charts.js", "board.js", "transcript.js", "reader.js", "report.js")
OURS = '<meta name="generator" content="dialog-gym report">'
_HEAD = 1000  # characters in which that stands


def write_page(path: Path, told: Mapping[str, Json], *, overwrite: bool = False) -> int:
    """Write the page that shows ``told`` (of ``payload``), whole or not at all, and return its size in bytes.

    Raises:
        FileExistsError: There is a file at ``path`` that is no report, and ``overwrite`` is not given.
    """
    check_target(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(path, text := as_html(told))
    return len(text.encode())


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse to write over something else than a report.

    Raises:
        FileExistsError: There is something.
    """
    if path.is_dir():
        raise FileExistsError(f"{path} is a folder; give the name of a file, for instance {path / 'report.html'}")
    if not path.exists() or overwrite:
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if OURS not in file.read(_HEAD):
            raise FileExistsError(f"{path} is no report; add --overwrite to replace it, or choose another --out")


def as_html(told: Mapping[str, Json]) -> str:
    """Return the page that shows ``told``."""
    style, script = _file("report.css"), "".join(("(() => {\n", *map(_file, SCRIPTS), "})();\n"))
    parts = {
        "policy": policy(style, script),
        "title": escape(str(told["title"])),
        "style": style,
        "script": script,
        "data": packed(told),
    }
    return re.sub(f"@({'|'.join(parts)})@", lambda found: parts[found[1]], _file("report.html"))


def policy(style: str, script: str) -> str:
    """Return what the page may do: run this script, show this style, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",  # the empty icon
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def packed(told: Mapping[str, Json]) -> str:
    """Return ``told`` as gzip in base64; the same gives the same."""
    text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return (files("dialog_gym.report") / name).read_text(encoding="utf-8")
