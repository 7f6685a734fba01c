"""What each of two processes does in ``test_two_processes``: ``torchrun ... -m tests.agents.beside WHAT FOLDER``."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dialog_gym.agents import dt, ilql, ppo, td3, tf
from dialog_gym.agents.lm_steps import Stepper
from dialog_gym.benchmarks.two_processes import Settings, settings_of, shards_on_cpu, train
from dialog_gym.data.columns import DatasetError

ASKED = Settings(steps=4)
RANK = int(os.environ.get("RANK", 0))


def args_of(name: str, folder: Path, out: str, **settings: Any) -> Any:
    """Return the settings of a run ``folder/out``."""
    args = settings_of(name, folder, folder, ASKED)
    return replace(args, out=str(folder / out), **{"eval_every": 0, "samples": 0, **settings})


def everything(folder: Path) -> None:
    """Train every agent, go on with what one process began, and be refused."""
    train(replace(ASKED, data=str(folder)), folder / "two")
    tf.train_all(args_of("tf_all", folder, "begun", track="tensorboard"))
    tf.train_all(args_of("tf_all", folder, "noisy-two", lora=2, lora_dropout=0.3, micro=2, steps=2))
    found = {
        "batch": told(lambda: tf.train_all(args_of("tf_all", folder, "a", batch=7))),
        "micro": told(lambda: dt.train(args_of("dt", folder, "b", micro=8))),
        "seed": told(lambda: tf.train_all(args_of("tf_all", folder, "c", seed=RANK))),
        "data": told(lambda: tf.train_all(args_of("tf_all", folder, "d")), unreadable=RANK == 1),
        "versions": told(lambda: tf.train_all(args_of("tf_all", folder, "e")), python=f"3.{RANK}"),
        "budget": told(lambda: ppo.train(args_of("ppo", folder, "f", budget=1.0))),
        "td3": told(lambda: td3.train(td3.Args(out=str(folder / "g"), track="none"))),
    }
    (folder / f"refused-{RANK}.json").write_text(json.dumps(found))


def told(what: Callable[[], object], *, unreadable: bool = False, python: str = "") -> str:
    """Return the error of ``what``, in a process whose data cannot be read, or that runs another Python."""
    lost = DatasetError("there is no data in this machine's folder")
    with ExitStack() as patches:
        if unreadable:
            patches.enter_context(patch("dialog_gym.agents.lm_training.read_data", side_effect=lost))
        if python:
            patches.enter_context(patch("dialog_gym.agents.lm_processes.versions", lambda: {"python": python}))
        try:
            what()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def sharded(folder: Path) -> None:
    """Train with sharded weights; go on with a run of whole weights, and leave one that is to go on with them."""
    with shards_on_cpu():
        asked = replace(ASKED, data=str(folder), agents=("tf_all", "dpo", "kto"))
        train(asked, folder / "sharded")
        train(replace(asked, agents=("dt", "stable_alignment"), lora=2), folder / "sharded-lora")
        tf.train_all(args_of("tf_all", folder, "begun-whole"))
        found = {"ppo": told(lambda: ppo.train(args_of("ppo", folder, "h")))}
        found["ilql"] = told(lambda: ilql.train(args_of("ilql", folder, "i")))
        training = tf.Training(tf.TFAll, args_of("tf_all", folder, "j"))
        found["kinds"] = " ".join({type(weight).__name__ for weight in training.stepper.parameters})
    (folder / f"refused-sharded-{RANK}.json").write_text(json.dumps(found))


def dying(folder: Path) -> None:
    """Train; the second process is gone after two steps, as one that has run out of memory."""
    stepping = Stepper.step

    def step(stepper: Stepper, *args: Any) -> Any:
        if RANK == 1 and stepper.steps == 2:
            os._exit(9)
        return stepping(stepper, *args)

    with patch.object(Stepper, "step", step):
        tf.train_all(args_of("tf_all", folder, "dying", steps=1000, log_every=1))


if __name__ == "__main__":
    {"everything": everything, "sharded": sharded, "dying": dying}[sys.argv[1]](Path(sys.argv[2]))
