"""Whether a command that is not run is one that would be understood: it goes through the real parsers.

``tyro`` is let parse and stopped before the command begins. Beside the flags, names of environments, their settings
(``--set``), and specs of language models with their options are looked up.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import itertools
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import tyro

from dialog_gym.commands import env_name, parse_settings, run
from dialog_gym.lm.spec import arguments, parse

FORMS = {
    "dialog_gym.envs.red_team:red_team": (
        "dialog_gym.envs.red_team:RedTeam",
        "dialog_gym.envs.red_team_behaviours:RedTeamBehaviours",
    ),
    "dialog_gym.envs.response:response": (
        "dialog_gym.envs.response_support:Support",
        "dialog_gym.envs.response_replay:Replay",
    ),
}
"""The tasks that a function makes which stands for several."""

SHARED = ("partner", "partner_temperature", "partner_tokens", "judge", "rubric", "reward", "cost")
STEERED = ("lm", "prefix", "observer", "state", "temperature", "max_tokens")
_MODELS = ("lm", "partner", "judge", "observer", "peer", "reward_model", "cost_model")
_FIRST_IS_ENV = ("play", "collect", "branch", "check", "partner-report")
_BACKENDS = {
    "hf": ("transformers_lm", "TransformersLM"),
    "vllm": ("vllm_lm", "VllmLM"),
    "openai": ("openai_lm", "OpenAILM"),
}


class Parsed(BaseException):
    """The words were understood; nothing was run."""


def check(words: Sequence[str]) -> None:
    """Parse a command of ours as it would be, and run nothing.

    Args:
        words: ``dialog-gym ...``, ``python -m dialog_gym....`` or ``accelerate launch ... -m dialog_gym....``.

    Raises:
        ValueError: It is not understood; the message is the parser's.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), parsing_alone():
            _enter(list(words))
    except Parsed:
        return _understood(words)
    except SystemExit as stop:
        if stop.code in (0, None) and {"-h", "--help"} & set(words):
            return None
        told = said.getvalue().strip() or str(stop.code)
        raise ValueError(f"not understood: {' '.join(words)}\n{told}") from stop
    except (KeyError, TypeError, gym.error.Error, ValueError) as error:
        raise ValueError(f"not understood: {' '.join(words)}\n{error}") from error
    return None


def _understood(words: Sequence[str]) -> None:
    try:
        _look_up(list(words))
    except KeyError as error:
        raise ValueError(f"not understood: {' '.join(words)}\n{error.args[0]}") from error


def _enter(words: list[str]) -> None:
    if words[0] == "dialog-gym":
        run(words[1:])
    elif "-m" in words and words[words.index("-m") + 1].startswith("dialog_gym"):
        at = words.index("-m") + 1
        with _arguments(words[at:]), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # runpy: the module has been imported before
            runpy.run_module(words[at], run_name="__main__", alter_sys=True)
    else:
        raise ValueError("only dialog-gym and python -m dialog_gym... can be parsed here")
    raise ValueError("it ran without parsing anything")


@contextlib.contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def parsing_alone() -> Iterator[None]:
    """Let ``tyro`` parse and then raise ``Parsed``, whatever it would have called."""
    cli, subcommands = tyro.cli, tyro.extras.subcommand_cli_from_dict

    def parse_one(made: Any, *args: Any, **kwargs: Any) -> NoReturn:
        cli(made if inspect.isclass(made) else _silent(made), *args, **kwargs)
        raise Parsed

    def parse_many(commands: Mapping[str, Callable[..., Any]], *args: Any, **kwargs: Any) -> NoReturn:
        subcommands({name: _silent(command) for name, command in commands.items()}, *args, **kwargs)
        raise Parsed

    tyro.cli, tyro.extras.subcommand_cli_from_dict = parse_one, parse_many  # type: ignore[assignment]
    try:
        yield
    finally:
        tyro.cli, tyro.extras.subcommand_cli_from_dict = cli, subcommands


def _silent(command: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(command)
    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    return nothing


def _look_up(words: list[str]) -> None:
    settings = parse_settings(_values(words, "--set"))
    env = _env_of(words)
    if env and "{" not in env:
        known = env_settings(env)
        if strange := sorted(set(settings) - set(known)):
            raise ValueError(f"{env} has no setting {strange[0]!r}; it has {', '.join(sorted(known))}")
    for name in _MODELS:
        for spec in [*_values(words, f"--{name.replace('_', '-')}"), *filter(None, [settings.get(name)])]:
            if not (name == "judge" and spec == "truth"):
                check_model(str(spec))


def _env_of(words: list[str]) -> str:
    named = _values(words, "--env")
    if not named and words[0] == "dialog-gym" and words[1] in _FIRST_IS_ENV:
        named = [words[2]]
    if not named or not named[-1]:
        return ""  # data of no environment
    if words[0] != "dialog-gym" and named[-1].rpartition(":")[2] not in gym.registry:
        raise ValueError(f"python -m wants the whole id, dialog_gym/NAME-v0, got {named[-1]!r}")
    return env_name(named[-1])


def _values(words: list[str], flag: str) -> list[str]:
    after = [value for word, value in itertools.pairwise(words) if word == flag]
    return after + [word.partition("=")[2] for word in words if word.startswith(f"{flag}=")]


def task_forms(env_id: str) -> tuple[Callable[..., Any], ...]:
    """Return what makes the task of an environment: its class, or the classes that a function chooses from."""
    entry = str(gym.spec(env_id.rpartition(":")[2]).kwargs["task"])  # of module:id the module is imported
    found = []
    for place in FORMS.get(entry, (entry,)):
        module, _, name = place.partition(":")
        found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


def env_settings(env_id: str) -> tuple[str, ...]:
    """Return the names of all settings of an environment, those of every environment included."""
    own = [name for form in task_forms(env_id) for name in inspect.signature(form).parameters]
    return (*own, *SHARED, *(STEERED if "Prefix-v" in env_id else ("lm",)))


def check_model(text: str) -> None:
    """Refuse the spec of a language model that has no such form or option.

    Raises:
        ValueError: It does. A folder that is not there yet passes.
    """
    if Path(text.partition("?")[0]).suffix == "" and text.startswith(("runs/", "models/", "./")):
        return
    spec = parse(text)
    if spec.options:
        module, name = _BACKENDS.get(spec.backend, _BACKENDS["hf"])
        made = getattr(importlib.import_module(f"dialog_gym.lm.{module}"), name)
        taken = ("model", "url", "name_or_path", "name")
        arguments(made if spec.backend == "openai" else made.from_pretrained, spec.options, taken)
