"""The command ``dialog-gym``: run one command, and tell errors the way a person wants to read them.

What a user can cause is told in one sentence, with exit status 2; ``--debug`` shows where it came from.
The commands themselves are in ``dialog_gym.commands``.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import gymnasium as gym

from dialog_gym.errors import ClusterError, LanguageModelError, SettingError
from dialog_gym.runs import RunFolderError

USAGE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141  # exit statuses, as shells have them

_EXTRAS = {
    "cli": ("rich", "tyro"),
    "torch": ("torch", "transformers", "tokenizers", "safetensors"),
    "api": ("aiohttp",),
    "peft": ("peft", "accelerate"),
    "vllm": ("vllm",),
    "sb3": ("stable_baselines3",),
    "report": ("matplotlib", "tensorboard"),
    "wandb": ("wandb",),
    "minari": ("minari",),
    "data": ("datasets", "pyarrow"),
    "train": ("trl",),
    "affect": ("vaderSentiment",),
    "metrics": ("sacrebleu", "nltk"),
    "ray": ("ray",),
}
_TOLD = (
    ValueError,
    KeyError,
    OSError,
    NotImplementedError,
    LanguageModelError,
    ClusterError,
    RunFolderError,
    SettingError,
    gym.error.Error,
    ModuleNotFoundError,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    Args:
        argv: What follows ``dialog-gym``; by default the arguments of the process.
    """
    # Small models lose more by handing work from thread to thread than they gain; set it for large ones.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what cannot be read or shown is no reason to stop
    try:
        from dialog_gym.commands import run

        run([word for word in words if word != "--debug"])
    except BrokenPipeError:  # the reader has gone, as in `dialog-gym envs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_CLOSED)
    except KeyboardInterrupt as stop:
        _leave(str(stop) or "stopped", INTERRUPTED)
    except _TOLD as error:
        if debug:
            raise
        _leave(sentence(error), USAGE)


def sentence(error: BaseException) -> str:
    """Return what ``error`` says to a person, on one line."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        for extra, packages in _EXTRAS.items():
            if package in packages:
                return f"this needs the package {package!r}: pip install 'dialog-gym[{extra}]'"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _leave(words: str, status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(f"dialog-gym: {words}\n")
    sys.exit(status)
