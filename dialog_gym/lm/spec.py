"""What a model spec says: ``BACKEND:NAME?OPTION=VALUE&...``, taken apart.

Options are the keyword arguments of the backend's constructor, so that each backend declares its own.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote, urlsplit

EMBEDDED = ("tiny", "tiny-advice", "tiny-bargain", "tiny-chat", "tiny-redteam", "tiny-social", "tiny-support")
"""Models that ship with the package: the plain one, and the one tuned together with its prefix map."""

FORMS = (
    "'tiny', 'tiny-bargain', 'speaker:NAME', 'hf:NAME_OR_PATH', 'vllm:NAME_OR_PATH', 'openai:MODEL@URL' or the path "
    "of a folder"
)


def own_model(task: object) -> str:
    """Return the model of the package that was trained in the world of ``task``, or ``"tiny"``.

    Its states tell the world's facts, so that it learns from few dialogues what ``tiny`` does not from many.
    """
    own = f"tiny-{getattr(task, 'world', '')}"
    return own if own in EMBEDDED else "tiny"


@dataclass(frozen=True, slots=True)
class Spec:
    """One model, named.

    Attributes:
        backend: ``"tiny"`` (a model of the package), ``"speaker"`` (one that was built into the cache), ``"hf"``,
            ``"vllm"`` or ``"openai"``.
        name: Name or folder of the model; without its URL.
        url: Where an ``openai`` server answers, else ``""``.
        options: What stands behind ``?``, values as text.
    """

    backend: str
    name: str
    url: str
    options: Mapping[str, str]


def parse(text: str) -> Spec:
    """Take a spec apart.

    Names may contain ``@``, ``:`` and ``/``: the URL begins at the last ``@http``. Options begin at the last ``?``;
    their values may be percent-encoded (``%26`` for ``&``). A folder that exists under the whole name has none.

    >>> parse("openai:ft:gpt-x:us@https://host/v1?timeout=60")
    Spec(backend='openai', name='ft:gpt-x:us', url='https://host/v1', options={'timeout': '60'})

    Raises:
        ValueError: It has no such form. The message shows no password.
    """
    backend, colon, rest = text.partition(":")
    if not colon or backend not in ("speaker", "hf", "vllm", "openai"):
        backend, rest = "", text
    name, options = (rest, {}) if not rest or Path(rest).exists() else _split_options(rest, text)
    if backend == "openai":
        return _openai(name, options)
    if not backend and name in EMBEDDED:
        return Spec("tiny", name, "", options)
    if name and (backend or Path(name).is_dir()):
        return Spec(backend or "hf", name, "", options)
    near = get_close_matches(name, EMBEDDED, n=1)
    raise ValueError(
        f"unknown language model {_shown(text)!r}: expected {FORMS}" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def arguments(make: Callable[..., Any], options: Mapping[str, str], taken: Collection[str] = ()) -> dict[str, Any]:
    """Return ``options`` as arguments of ``make``, converted to the types it declares; ``taken`` are no options.

    Raises:
        ValueError: ``make`` takes no such option, or it is of another type. No value is shown that may be secret.
    """
    parameters = inspect.signature(make).parameters
    hints = get_type_hints(make.__init__ if inspect.isclass(make) else make)
    named = [name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD and name not in taken]
    open_ended = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in named:
            found[name] = converted(f"option {name!r}", value, hints.get(name, str))
        elif open_ended:
            found[name] = _guessed(value)
        else:
            near = get_close_matches(name, named, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"this language model has no option {name!r}{hint} (it has {', '.join(sorted(named))})")
    return found


def _split_options(rest: str, text: str) -> tuple[str, dict[str, str]]:
    name, mark, tail = rest.rpartition("?")
    if not mark:
        return rest, {}
    options: dict[str, str] = {}
    for part in tail.split("&"):
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise ValueError(
                f"the options of a language model look like ?NAME=VALUE&NAME=VALUE, got {option!r:.40} without a "
                f"value in {_shown(text)!r}"
            )
        if option in options:
            raise ValueError(f"option {option!r} is given twice in {_shown(text)!r}")
        options[option] = unquote(value)
    return name, options


def _openai(rest: str, options: Mapping[str, str]) -> Spec:
    at = max(rest.rfind("@http://"), rest.rfind("@https://"))
    model, url = rest[: max(at, 0)], rest[at + 1 :]
    if not model or not urlsplit(url).hostname:
        raise ValueError(
            "a model behind an API is named 'openai:MODEL@URL', for instance "
            f"'openai:gpt-x@https://api.openai.com/v1', got {_shown('openai:' + rest)!r}"
        )
    if urlsplit(url).username is not None or urlsplit(url).query:
        raise ValueError(
            f"the URL of language model {model!r} must hold no password and no query: put the key into an "
            "environment variable, and name that with ?key_env=NAME"
        )
    return Spec("openai", model, url.rstrip("/"), options)


def _shown(text: str) -> str:
    """Return what of a spec may be shown: no options, and nothing between ``//`` and ``@``."""
    text = text.partition("?")[0]
    scheme, slashes, rest = text.rpartition("//")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def converted(what: str, value: str, hint: Any) -> Any:
    """Return ``value`` as a ``hint`` says: a truth value, a number, or else the text itself; ``what`` it is of.

    Raises:
        ValueError: It is of another type.
    """
    wanted = list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]
    for kind in (bool, int, float):
        if kind in wanted:
            try:
                return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
            except (KeyError, ValueError):
                expected = "true or false" if kind is bool else "a whole number" if kind is int else "a number"
                raise ValueError(f"{what} must be {expected}, got {value!r:.40}") from None
    return value


def _guessed(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(value.lower(), value)
