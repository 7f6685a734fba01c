"""The fenced blocks of README and docs, and the commands in them.

A block whose info string has a title that begins with ``needs`` is not run where the docs are tested (a GPU, a key,
hours): its commands are only parsed (``docs_parse``). A Python block titled ``NAME.py`` is a file that the blocks
after it may use. Of a Python block that is followed by a ``text`` block, that is what it prints.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n`]*)\n(?P<text>.*?)^```\s*?$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OURS = ("dialog-gym", "python", "make", "pytest", "pip", "accelerate", "ray", "vllm")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        file: Name of the page.
        line: Line of its first line in it.
        language: ``python``, ``bash``, ``text``, ... or ``""``.
        title: What its info string is titled, else ``""``.
        text: What it says.
    """

    file: str
    line: int
    language: str
    title: str
    text: str

    @property
    def is_shell(self) -> bool:
        """Whether it holds commands; a block without a language does if it begins with a command of ours."""
        return self.language == "bash" or (not self.language and self.text.split(maxsplit=1)[:1] != [] and self._ours)

    @property
    def _ours(self) -> bool:
        return self.text.split(maxsplit=1)[0] in _OURS

    @property
    def needs(self) -> str:
        """What it needs that a test has not, as its title says; ``""`` where it needs nothing."""
        return self.title if self.title.startswith("needs") else ""

    @property
    def where(self) -> str:
        """Page and line."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a block.

    Attributes:
        block: Where it stands.
        line: Its text, on one line and without its comment.
        words: Its words, after what the shell does to them.
    """

    block: Block
    line: str
    words: tuple[str, ...]


def read_blocks(page: Path, root: Path | None = None) -> list[Block]:
    """Return the fenced blocks of a page of Markdown, in order.

    Args:
        page: The file.
        root: Folder that its name is told from.
    """
    return blocks_of(page.read_text(encoding="utf-8"), str(page.relative_to(root) if root else page.name))


def blocks_of(text: str, file: str) -> list[Block]:
    r"""Return the fenced blocks of ``text``.

    >>> [block.where for block in blocks_of("Say:\n\n```bash\nmake test\n```\n", "a.md")]
    ['a.md:4']
    """
    found = []
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["info"])
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(file, line, match["language"], title[1] if title else "", match["text"]))
    return found


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a block of shell: assignments, ``$NAME`` and lines that are continued.

    Raises:
        ValueError: A line is more than a simple command (a pipe, a loop), or no shell reads it.
    """
    variables: dict[str, str] = {}
    found = []
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        words = _split(line, block)
        while words and (assigned := _ASSIGNMENT.fullmatch(words[0])):
            variables[assigned[1]] = _expanded(assigned[2], variables)
            words = words[1:]
        if not words:
            continue
        if strange := [word for word in words if word in ("|", "&&", "||", ";", "&", "<", ">", "for", "do")]:
            raise ValueError(
                f"{block.where}: simple commands are expected, one a line, got {strange[0]!r} in {line!r}"
            )
        found.append(Command(block, _without_comment(line), tuple(_expanded(word, variables) for word in words)))
    return found


def _split(line: str, block: Block) -> list[str]:
    for part in line.split(";"):  # H=runs/a; HS=$H/b is two assignments; any other use of ; is refused below
        if not _ASSIGNMENT.fullmatch(part.strip()):
            break
    else:
        line = line.replace(";", " ")
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise ValueError(f"{block.where}: no shell reads {line!r}: {error}") from error


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s+)#.*", "", line).strip()


def _expanded(word: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: variables.get(match[1], os.environ.get(match[1], match[0])), word)


def globbed(words: Sequence[str], folder: Path) -> list[str]:
    """Return ``words`` with those that have a ``*`` replaced by the files that they match in ``folder``, if any."""
    found: list[str] = []
    for word in words:
        matches = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else []
        found += matches or [word]
    return found
