"""Corpora by name where data are asked for: ``corpus:NAME:PATH?OPTION=VALUE&OPTION=VALUE``."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dialog_gym.data.columns import DatasetError

CORPUS = "corpus:"


class CorpusSpec(NamedTuple):
    """A corpus, where it lies, and the options of its reader."""

    name: str
    path: str
    options: dict[str, Any]


def parse_corpus(text: str) -> CorpusSpec:
    """Return what ``text`` names; values of options that are no JSON are text.

    >>> parse_corpus("corpus:candor:talks?overlap=2&agent=both")
    CorpusSpec(name='candor', path='talks', options={'overlap': 2, 'agent': 'both'})

    Raises:
        DatasetError: It names no corpus.
    """
    name, colon, rest = text.removeprefix(CORPUS).partition(":")
    path, _, tail = rest.partition("?")
    options = dict(part.partition("=")[::2] for part in tail.split("&") if part)
    if not (text.startswith(CORPUS) and name and colon and path) or not all(options.values()):
        raise DatasetError(f"a corpus is named {CORPUS}NAME:PATH?OPTION=VALUE&..., got {text!r}")
    return CorpusSpec(name, path, {name: _value(value) for name, value in options.items()})


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
