"""The parts of a long JSON text one after the other, without holding the whole.

Only brackets and strings are looked at here: a part is cut out and parsed by ``json.loads``. Hence a part with an
error inside does not stop those after it, as long as its brackets and quotes are in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

LONGEST = 1 << 26  # characters of one part: who leaves out a bracket shall not make us read gigabytes into memory

Part = tuple[str | None, str]
"""Key, where there is one, and JSON text."""

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + r'|[{}\[\]"]', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_PLAIN_END = re.compile(r"[\s,:{}\[\]\"]")


class JsonStream:
    """A JSON text that comes in pieces.

    >>> list(JsonStream(iter(['[{"a": [1, ', '2]}, "x', '"]'])).array())
    [(None, '{"a": [1, 2]}'), (None, '"x"')]
    >>> list(JsonStream(iter(['{"train": [1], "dev": [2, 3]}'])).arrays())
    [('train', '1'), ('dev', '2'), ('dev', '3')]
    """

    def __init__(self, pieces: Iterator[str]) -> None:
        """Read ``pieces`` as they are needed."""
        self._pieces = pieces
        self._text, self._at = "", 0

    def array(self) -> Iterator[Part]:
        """Yield the elements of the array that the text is.

        Raises:
            ValueError: It is none, or it breaks off; all that stands before was yielded.
        """
        yield from self._elements(None)
        self._end()

    def members(self) -> Iterator[Part]:
        """Yield key and value of the members of the object that the text is.

        Raises:
            ValueError: As ``array``.
        """
        for key in self._keys():
            yield key, self._value()
        self._end()

    def arrays(self) -> Iterator[Part]:
        """Yield key and element for every array in the object that the text is; other members are passed over.

        A text that is an array itself yields its elements without a key.

        Raises:
            ValueError: As ``array``.
        """
        if self._peek() == "[":
            yield from self.array()
            return
        for key in self._keys():
            if self._peek() == "[":
                yield from self._elements(key)
            else:
                self._value()
        self._end()

    def records(self) -> Iterator[Part]:
        """Yield the elements of an array, or values that simply follow each other (JSON lines).

        Raises:
            ValueError: As ``array``.
        """
        if self._peek() == "[":
            yield from self.array()
            return
        while self._peek():
            yield None, self._value()

    # --- grammar -------------------------------------------------------------------------------

    def _elements(self, key: str | None) -> Iterator[Part]:
        self._take("[")
        if self._peek() == "]":
            return self._skip()
        while True:
            yield key, self._value()
            if self._take(",]") == "]":
                return None

    def _keys(self) -> Iterator[str]:
        self._take("{")
        if self._peek() == "}":
            return self._skip()
        while True:
            if self._peek() != '"':
                raise ValueError(f"expected a name in quotes, got {self._rest()}")
            name: str = json.loads(self._value())
            self._take(":")
            yield name
            if self._take(",}") == "}":
                return None

    def _value(self) -> str:
        """Cut out the value that comes next."""
        first = self._peek()
        if first in ("{", "["):
            end = self._closing()
        elif first == '"':
            while not (found := _STRING.match(self._text, self._at)):
                self._more("a string")
            end = found.end()
        else:
            end = self._plain()
        text, self._at = self._text[self._at : end], end
        return text

    def _closing(self) -> int:
        """Return where the brackets that open here are closed."""
        depth, at = 0, self._at
        while True:
            for token in _TOKEN.finditer(self._text, at):
                sign = token[0]
                if sign == '"':  # a string that goes on in the next piece
                    at = token.start()
                    break
                at = token.end()
                depth += (sign in "{[") - (sign in "}]")
                if not depth:
                    return at
            else:
                at = len(self._text)
            at -= self._at
            self._more("brackets")  # may drop what lies before
            at += self._at

    def _plain(self) -> int:
        """Return where a number, true, false or null ends."""
        while not (found := _PLAIN_END.search(self._text, self._at)):
            if not self._read():
                return len(self._text)
        if found.start() == self._at:
            raise ValueError(f"expected a value, got {self._rest()}")
        return found.start()

    # --- text ----------------------------------------------------------------------------------

    def _peek(self) -> str:
        """Return the next character that is no space, ``""`` at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def _skip(self) -> None:
        self._at += 1

    def _take(self, signs: str) -> str:
        sign = self._peek()
        if not sign or sign not in signs:
            raise ValueError(f"expected {' or '.join(signs)!r}, got {self._rest()}")
        self._at += 1
        return sign

    def _end(self) -> None:
        if self._peek():
            raise ValueError(f"expected the end of the file, got {self._rest()}")

    def _rest(self) -> str:
        return repr(self._text[self._at : self._at + 30]) if self._at < len(self._text) else "the end of the file"

    def _more(self, what: str) -> None:
        """Read on inside ``what``, as much again as there is: a long part is looked through a few times only."""
        wanted = 2 * (len(self._text) - self._at)
        if wanted > 2 * LONGEST:
            raise ValueError(f"{what} that open here are not closed within {LONGEST} characters: {self._rest()}")
        pieces = [self._text[self._at :]]
        length = len(pieces[0])
        while length <= wanted and (piece := next(self._pieces, "")):
            pieces.append(piece)
            length += len(piece)
        if len(pieces) == 1:
            raise ValueError(f"{what} that open here are not closed before the end of the file: {self._rest()}")
        self._text, self._at = "".join(pieces), 0

    def _read(self) -> bool:
        """Add a piece and drop what was used; return whether there was one."""
        piece = next(self._pieces, "")
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)
