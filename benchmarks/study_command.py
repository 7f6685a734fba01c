"""The command ``dialog-gym study``: what offline learning makes of recorded dialogues, from the data to the table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from dialog_gym.commands import env_name, text_ids
from dialog_gym.data.corpora import corpus_names
from dialog_gym.errors import unknown

PROG = "dialog-gym study"
Subject = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS|ENV")]
CorpusPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]


def study(subject: Subject, path: CorpusPath = "") -> None:
    """Compare what tf, tf_all, tf_top, dt and ilql learn from recorded dialogues, in one command.

    Of a corpus: a base language model is built from its dialogues (or named by --lm), answers in its contexts, its
    answers are scored by their likeness to what a person said, every method learns from them, and the table tells how
    its answers in held-out contexts score, best of k. Of an environment: dialogues of the unsteered language model are
    logged, every method learns from them, and the table tells what it earns in held-out episodes.

    `dialog-gym study camrest PATH --help` and `dialog-gym study Bargain-v0 --help` list the settings. Every stage
    leaves files in the folder --out, with CSV and images; the same command started again goes on where it was stopped.

    Args:
        subject: Format of a corpus (`dialog-gym data corpora` lists them), or an environment.
        path: File or folder of the corpus, or hub:NAME.
    """
    run([subject, *([path] if path else [])])


def run(words: Sequence[str]) -> None:
    """Run the study that ``words`` ask for: a corpus with its path, or an environment, then settings.

    Raises:
        KeyError: There is no such corpus or environment.
        SystemExit: A method failed; the others are in the table.
    """
    subject, *rest = words
    if subject in corpus_names():
        from dialog_gym.benchmarks import study as of_corpus

        status = of_corpus.main([subject, *rest], prog=PROG)
    else:
        from dialog_gym.benchmarks import offline as of_env

        status = of_env.main(["--env", _env(subject), *rest], prog=f"{PROG} {subject}")
    if status:
        sys.exit(status)


def _env(subject: str) -> str:
    try:
        return env_name(subject)
    except KeyError as error:
        raise unknown("corpus or environment", subject, [*corpus_names(), *text_ids()]) from error
