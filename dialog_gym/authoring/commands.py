"""The commands of ``dialog-gym`` for authors: ``new``, ``check`` and ``partner-report``."""

from __future__ import annotations

import inspect
import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from dialog_gym.authoring.new import Kind, write_new

Settings = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")]


def new(
    kind: tyro.conf.Positional[Kind],
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    folder: Path = Path(),
) -> None:
    """Write a new environment or reward and its test: a small example that works, to change.

    In a checkout of dialog_gym the files go where they belong, and an environment is registered.

    Args:
        kind: What to write.
        name: Name of the module, for instance small_talk.
        folder: Where to write it.
    """
    written = write_new(kind, name, folder)
    lines = [f"wrote {file}" for file in written.files]
    sys.stdout.write("\n".join([*lines, "", "Try next:", *(f"  {command}" for command in written.next)]) + "\n")


def check(
    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV|MODULE:NAME")], settings: Settings = ()
) -> None:
    """Check that an environment, a task or a reward keeps its contract; exit status 1 if it does not.

    Args:
        what: Environment, for instance Bargain-v0 or module:my/Name-v0; or the class of a task or of a reward, or a
            reward itself, as @reward makes it. What a world promises of its own reward is not asked of another one
            (--set reward=module:name).
        settings: Argument of the environment or the class, for instance side=seller.
    """
    from dialog_gym.commands import parse_settings

    found = _found(what, parse_settings(settings))
    width = max(len(finding.check) for finding in found)
    for name, problem in found:
        sys.stdout.write(f"{name:<{width}}  {problem or 'ok'}\n")
    problems = sum(not finding.ok for finding in found)
    if problems:
        sys.stdout.write(f"\n{problems} of {len(found)} checks failed.\n")
        sys.exit(1)


def partner_report(
    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")],
    partner: str | None = None,
    agent: str = "mix",
    lm: str = "",
    episodes: int = 128,
    seed: int = 1_000_000,
    rows: int = 32,
    settings: Settings = (),
    json: bool = False,
) -> None:
    """Report on a partner: whether it understands, leaves, repeats itself, echoes, speaks for the agent.

    Args:
        env: Environment, for instance Bargain-v0.
        partner: Language model in the partner's place, for instance tiny, hf:NAME or openai:MODEL@URL.
        agent: Who talks to it: mix, lm, oracle, anything, or a scripted policy of the environment.
        lm: Language model that speaks if the agent is lm; default: the one that was made in this world, else tiny.
        episodes: Number of dialogues.
        seed: Seed of the first; the others follow.
        rows: Dialogues in parallel; no influence on the result.
        settings: Argument of the environment, for instance side=seller.
        json: Print JSON.
    """
    from dialog_gym import commands
    from dialog_gym.partner_report import partner_report as report_on

    env_id = commands.text_id(commands.env_name(env))
    told = report_on(
        env_id,
        partner=partner,
        agent=agent,
        lm=lm,
        episodes=episodes,
        seed=seed,
        rows=rows,
        env_kwargs=commands.parse_settings(settings),
    )
    if json:
        sys.stdout.write(json_module.dumps(told.to_json(), ensure_ascii=False, indent=2) + "\n")
        return
    sys.stdout.write(f"{told.env}, dialog_gym {told.version}, partner {told.partner}, agent {told.agent}\n")
    _table(told.rows())


def _table(rows: list[dict[str, str]]) -> None:
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [dict(zip(widths, widths, strict=True)), *rows]:
        sys.stdout.write("  ".join(f"{text:<{widths[name]}}" for name, text in row.items()).rstrip() + "\n")


def _found(what: str, kwargs: dict[str, Any]) -> list[Any]:
    from dialog_gym.authoring.modules import user_object
    from dialog_gym.checks import env_findings, reward_findings, task_findings
    from dialog_gym.checks.env_id import FIRST
    from dialog_gym.commands import env_name, text_id
    from dialog_gym.env import env_task
    from dialog_gym.rewards.base import Reward
    from dialog_gym.task import Task

    name = what.rpartition(":")[2]
    if ":" in what and name.isidentifier():
        named = user_object(what)
        ready = isinstance(named, (Reward, Task)) and not kwargs
        made = named if ready else _construct(named, what, kwargs)
        if isinstance(made, Reward):
            return reward_findings(made)
        if isinstance(made, Task):
            return task_findings(made)
        raise ValueError(f"expected a Task or a Reward to check, got {what}, a {type(made).__mro__[-2].__name__}")
    env_id = text_id(env_name(what))
    found = env_findings(env_id, **kwargs)
    if len(found) > len(FIRST):
        found += task_findings(env_task(env_id, kwargs))
    return found


def _construct(found: Any, what: str, kwargs: dict[str, Any]) -> Any:
    if not inspect.isroutine(found) and not isinstance(found, type):
        raise ValueError(f"{what} is made already and takes no --set, got {kwargs}")
    try:
        return found(**kwargs)
    except TypeError as error:
        raise ValueError(
            f"{what} cannot be made with {kwargs}: {error}; give arguments by --set KEY=VALUE. A function of the "
            f"task is checked with an environment: dialog-gym check ENV --set reward={what}"
        ) from error
