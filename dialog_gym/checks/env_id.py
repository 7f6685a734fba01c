"""Checks of a registered environment: what Gymnasium expects, and that a row is the same as a single environment."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from typing import Any, NamedTuple, cast

import gymnasium as gym
from gymnasium.utils.env_checker import check_env

from dialog_gym.checks.base import Check, Finding, findings, global_chance_untouched, need, raise_problems, said
from dialog_gym.checks.playing import anything
from dialog_gym.env import DialogueEnv, DialogueVectorEnv

ROWS, STEPS, SEED = 3, 24, 7


def check_env_id(env_id: str) -> None:
    """Check the environment registered as ``env_id``; ``check_task`` checks the task behind it.

    Args:
        env_id: Id of a text environment; ``"module:id"`` imports the module first.

    Raises:
        ContractError: It does not do what Gymnasium or dialog_gym promise; the message tells every problem.
    """
    raise_problems(env_id, env_findings(env_id))


def env_findings(env_id: str, **kwargs: Any) -> list[Finding]:
    """Return what every check of a registered environment found.

    Args:
        env_id: As in ``check_env_id``.
        kwargs: Arguments of the environment.
    """
    return findings(FIRST, _THEN, Made(env_id, kwargs))


class Made(NamedTuple):
    """What is checked: an id and the arguments to make it with."""

    env_id: str
    kwargs: dict[str, Any]

    def one(self) -> DialogueEnv:
        """Return one dialogue."""
        env = gym.make(self.env_id, disable_env_checker=True, **self.kwargs).unwrapped
        need(
            isinstance(env, DialogueEnv),
            f"{self.env_id} makes a {type(env).__name__}, not a DialogueEnv; register its task by "
            "dialog_gym.registration.register(id, 'module:Class'), and check the text environment",
        )
        return cast(DialogueEnv, env)

    def rows(self, mode: str) -> DialogueVectorEnv:
        """Return ``ROWS`` dialogues."""
        return cast(
            DialogueVectorEnv,
            gym.make_vec(self.env_id, num_envs=ROWS, autoreset_mode=mode, **self.kwargs).unwrapped,
        )


def _is_made(made: Made) -> None:
    made.one()


def _takes_a_step(made: Made) -> None:
    env = made.one()
    env.reset(seed=SEED)
    env.step("hello"[: env.task.max_chars])


def _gymnasium(made: Made) -> None:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # it renders, for people too
        warnings.simplefilter("error")  # what Gymnasium warns of is broken for somebody
        warnings.filterwarnings("ignore", message=".*Not able to test alternative render modes.*")
        try:
            check_env(made.one())
        except Exception as error:  # whatever it finds
            need(False, f"gymnasium.utils.env_checker.check_env says: {said(error)}")


def _prefix(made: Made) -> None:
    name, _, version = made.env_id.rpartition(":")[2].rpartition("-")
    wanted = f"{name}Prefix-{version}"
    need(
        wanted in gym.registry,
        f"there is no {wanted}, the same game steered by vectors; register by dialog_gym.registration.register, "
        "which adds both",
    )
    gym.spec(wanted).to_json()


def _same_again(made: Made) -> None:
    env = made.one()
    with global_chance_untouched():
        first, _ = env.reset(seed=SEED)
        env.step("hello"[: env.task.max_chars])
        again, _ = env.reset(seed=SEED)
    need(first == again, "reset(seed=7) gave two observations; let nothing in the task outlive a dialogue")


def _rows_are_single_environments(made: Made) -> None:
    rows = made.rows("next_step")
    seen, _ = rows.reset(seed=SEED)
    singles = [made.one() for _ in range(ROWS)]
    alone = [single.reset(seed=SEED + i)[0] for i, single in enumerate(singles)]
    need(tuple(alone) == tuple(seen), f"rows seeded {SEED} do not begin as single environments seeded {SEED} + row do")
    over = [False] * ROWS
    for step in range(STEPS):
        texts = [anything(rows.task, dialogue) for dialogue in rows.dialogues]
        seen, rewards, *_ = rows.step(texts)
        for i, single in enumerate(singles):
            if over[i]:
                (alone_seen, _), reward, over[i] = single.reset(), 0.0, False
            else:
                alone_seen, reward, ended, cut, _ = single.step(texts[i])
                over[i] = ended or cut
            need(
                (alone_seen, reward) == (seen[i], rewards[i]),
                f"row {i} seeded {SEED} + {i} differs from a single environment of that seed at step {step + 1}; let "
                "every answer depend on its own dialogue alone",
            )


def _autoreset(made: Made) -> None:
    waits, at_once = made.rows("disabled"), made.rows("same_step")
    waits.reset(seed=SEED)
    at_once.reset(seed=SEED)
    ended = waits.live < 0  # nobody
    for _ in range(waits.task.max_turns):
        texts = [anything(waits.task, dialogue) for dialogue in waits.dialogues]
        fresh = ~ended
        last, *_ = waits.step(texts)
        _, _, terminated, truncated, infos = at_once.step(texts)
        for row in (fresh & ~waits.live).nonzero()[0]:
            need(
                (terminated | truncated)[row] and infos["final_obs"][row] == last[row],
                "same_step must report in infos['final_obs'] what the dialogue ended with",
            )
        ended |= ~waits.live
        if ended.any():  # from here on the rows of the two play different dialogues
            break
    need(ended.any(), "no dialogue ended within max_turns")


FIRST: list[Check[Made]] = [("is made", _is_made), ("takes a step", _takes_a_step)]
"""Where one of these fails, nothing else is looked at."""
_THEN: list[Check[Made]] = [
    ("Gymnasium's check_env", _gymnasium),
    ("reset repeats", _same_again),
    ("rows as single environments", _rows_are_single_environments),
    ("autoreset", _autoreset),
    ("prefix environment", _prefix),
]
