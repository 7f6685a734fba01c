"""Docstrings as Markdown, for the pages of the Python API (an extension of Griffe, which reads them)."""

from __future__ import annotations

import re
from typing import Any

import griffe

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)


class Docstrings(griffe.Extension):
    """Examples become blocks of code, and brackets stay brackets: Markdown would take them for links."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Rewrite the docstring of ``obj`` (called by Griffe)."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with fenced examples and escaped brackets; what is code stays as it is."""
    blocks = re.split(r"\n[ ]*\n", text)
    return "\n\n".join(_fenced(block) if block.lstrip().startswith(">>>") else _escaped(block) for block in blocks)


def _fenced(block: str) -> str:
    indent = re.match(" *", block)[0]  # type: ignore[index]  # matches always
    return f"{indent}```pycon\n{block}\n{indent}```"


def _escaped(block: str) -> str:
    parts = _CODE.split(block)
    return "".join(part if i % 2 else part.replace("[", "\\[") for i, part in enumerate(parts))
