"""JSON lines, a JSON value a line: where a line begins and ends."""

from __future__ import annotations


def numbered(text: str) -> list[tuple[int, str]]:
    r"""Return number (from 1) and text of each line that is not blank.

    Only a line feed ends a line. ``str.splitlines`` also ends one at U+2028, U+2029 and U+0085, which a JSON string
    may hold as they are.

    >>> numbered('{"said": "one"}\r\n\n{"said": "two"}\n')
    [(1, '{"said": "one"}\r'), (3, '{"said": "two"}')]
    """
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
