"""Answers that were paid for once: a file of replies by key.

Only what is determined is kept: replies at temperature 0, or drawn with a seed. The key of an answer is a hash of
all that it depends on, so a file may serve many models, tasks and processes at the same time.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dialog_gym.dialogue import Json
from dialog_gym.lm.base import Generation, Messages, Sampling, Schema

FORMAT = 1  # raise it whenever a key or an answer means something else
_WAIT = 60.0  # seconds that one process waits for another that writes
_AT_ONCE = 500  # keys in one query


class AnswerFile:
    """Replies by key in an SQLite file; any number of threads and processes may use it at once."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or begin it.

        Raises:
            ValueError: It is damaged, of another format, or cannot be written.
        """
        self.path = Path(path)
        self._here = threading.local()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = self._ask("SELECT value FROM about WHERE name = 'format'", begin=True)
        if found != [(str(FORMAT),)]:
            raise ValueError(
                f"the file of answers {str(self.path)!r} has format {found[0][0] if found else 'none'}, expected "
                f"{FORMAT}: delete it to begin anew, or name another file"
            )

    def find(self, keys: Iterable[str]) -> dict[str, Generation]:
        """Return the answers there are, by key."""
        wanted, found = list(dict.fromkeys(keys)), {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, answer in self._ask(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some):
                found[key] = _read(answer, self.path)
        return found

    def keep(self, key: str, answer: Generation) -> None:
        """Write one answer down, at once: it is safe when this returns."""
        text = json.dumps([answer.text, answer.tokens, answer.logprobs, answer.stop])
        self._ask("INSERT OR REPLACE INTO answers VALUES (?, ?)", [key, text])

    def drop(self, keys: Iterable[str]) -> None:
        """Remove answers; a key without one is no error."""
        for key in keys:
            self._ask("DELETE FROM answers WHERE key = ?", [key])

    def __len__(self) -> int:
        """Return the number of answers."""
        return int(self._ask("SELECT count(*) FROM answers")[0][0])

    def _ask(self, query: str, values: Sequence[str] = (), *, begin: bool = False) -> list[tuple[Any, ...]]:
        try:
            return self._connection(begin).execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ValueError(
                f"the file of answers {str(self.path)!r} cannot be used ({error}): delete it (and the files beside "
                "it that end in -wal and -shm) to begin anew, or name another file"
            ) from error

    def _connection(self, begin: bool) -> sqlite3.Connection:
        """Return this thread's connection; a forked process gets its own."""
        held: _Held | None = getattr(self._here, "held", None)
        if held is None or held.pid != os.getpid():
            self._here.held = held = _Held(self.path)
        if begin:
            held.begin()
        return held.connection


class _Held:
    """One connection, closed with the thread that asked for it."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        self.pid = os.getpid()
        self.connection.execute("PRAGMA synchronous = NORMAL")  # what is lost when the power fails is asked again

    def __del__(self) -> None:
        if getattr(self, "pid", None) == os.getpid():
            self.connection.close()

    def begin(self) -> None:
        """Make the tables, unless somebody has."""
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
        self.connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
        if not self.connection.execute("SELECT count(*) FROM answers").fetchone()[0]:
            self.connection.execute("INSERT OR IGNORE INTO about VALUES ('format', ?)", (str(FORMAT),))
        self.connection.execute("COMMIT")


@runtime_checkable
class Retracting(Protocol):
    """A model that keeps answers, and can be told that some were of no use."""

    def retract(self, prompts: Sequence[Messages], sampling: Sampling, *, schema: Schema | None = None) -> None:
        """Ask the model anew when ``generate`` is called with these arguments again."""
        ...


def key_of(asked: Json) -> str:
    """Return the key of an answer: a hash of all that was asked, JSON, and of the version of the format."""
    return blake2b(json.dumps([FORMAT, asked], sort_keys=True).encode(), digest_size=20).hexdigest()


def _read(answer: str, path: Path) -> Generation:
    try:
        text, tokens, logprobs, stop = json.loads(answer)
        return Generation(str(text), tuple(tokens), tuple(logprobs), stop)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the file of answers {str(path)!r} holds an answer that cannot be read ({error}): delete it"
        ) from error
