"""A person at the keyboard as the agent: read the goal, talk to the partner, see the reward.

Lines come from a terminal or from a pipe. A line is said as it stands; one that begins with ``/`` is a
command (``/help`` lists them), and ``//`` says a line that begins with ``/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from dialog_gym.dialogue import Dialogue, Json
from dialog_gym.env import DialogueEnv, advance
from dialog_gym.errors import LanguageModelError
from dialog_gym.render import visible
from dialog_gym.task import Task

COMMANDS = {
    "/quit": "stop here",
    "/hint": "show what the oracle would say now",
    "/goal": "show your goal again",
    "/help": "show this list",
}


@dataclass(frozen=True)
class Played:
    """One dialogue a person played.

    Attributes:
        dialogue: What was said, and how it ended; ``stop_reason`` is "" if the person left.
        rewards: One per turn of the person.
        oracle_return: What the oracle earns in the same scenario, None where there is no oracle.
    """

    dialogue: Dialogue
    rewards: tuple[float, ...]
    oracle_return: float | None

    def to_json(self) -> dict[str, Json]:
        """Return everything as plain JSON values."""
        return {
            "return": sum(self.rewards),
            "rewards": list(self.rewards),
            "success": self.dialogue.success,
            "stop_reason": self.dialogue.stop_reason,
            "oracle_return": self.oracle_return,
            "dialogue": self.dialogue.to_json(),
        }


def play(
    env: gym.Env[Any, Any], console: Console, read: Callable[[], str | None], *, seed: int | None = None
) -> Played:
    """Let a person play one dialogue.

    Args:
        env: A text environment, as ``gym.make("dialog_gym/Bargain-v0")`` returns it.
        console: Where the dialogue is shown.
        read: Returns the person's next line, None when there are no more.
        seed: Names the dialogue; None draws one.
    """
    text_env = env.unwrapped
    if not isinstance(text_env, DialogueEnv):
        raise ValueError(f"a person plays a text environment (dialog_gym/Name-v0), got {type(text_env).__name__}")
    _, info = env.reset(seed=seed)
    start: Dialogue = info["dialogue"]
    agent = start.roles[0]
    _show_goal(console, start, text_env.task)
    _show_turns(console, start, 0)
    rewards: list[float] = []
    dialogue = start
    while not dialogue.stop_reason:
        console.print(Text(f"{agent} > ", style="bold cyan"), end="")
        line = read()
        if line is None or line.strip() == "/quit":
            console.print()
            break
        if line.startswith("/") and not line.startswith("//"):
            _obey(console, line.strip(), dialogue, text_env.task)
            continue
        try:
            _, reward, _, _, info = env.step(line.removeprefix("/"))
        except (ValueError, LanguageModelError) as error:  # too long, or no answer: nothing has happened, say it again
            console.print(Text(str(error), style="red"))
            continue
        heard, dialogue = len(dialogue.turns) + 1, info["dialogue"]
        rewards.append(float(reward))
        _show_turns(console, dialogue, heard)
        _show_reward(console, dialogue, text_env.task, rewards)
    played = Played(dialogue, tuple(rewards), oracle_return(text_env.task, start))
    _show_end(console, played)
    return played


def oracle_return(task: Task, dialogue: Dialogue) -> float | None:
    """Return what the oracle earns from ``dialogue`` on, None if the task has no oracle."""
    total = 0.0
    try:
        while not dialogue.stop_reason:
            (dialogue,), (reward,), *_ = advance(task, [dialogue], [task.oracle(dialogue)])
            total += reward
    except NotImplementedError:
        return None
    return total


def _show_goal(console: Console, dialogue: Dialogue, task: Task) -> None:
    agent, partner = dialogue.roles
    brief = Text(visible(dialogue.brief(agent)))
    if task.render_hint:
        brief.append(f"\n({task.render_hint})", style="dim")
    title = f"You are the {agent}, talking to the {partner}"
    console.print(Panel(brief, title=title, subtitle=f"{task.max_turns} turns at most; /help", expand=False))


def _show_turns(console: Console, dialogue: Dialogue, first: int) -> None:
    for role, text in dialogue.turns[first:]:
        style = "cyan" if role == dialogue.roles[0] else "bold"
        console.print(Text(f"{role}: {visible(text)}", style=style))


def _show_reward(console: Console, dialogue: Dialogue, task: Task, rewards: list[float]) -> None:
    line = f"  turn {dialogue.turn} of {task.max_turns}, reward {rewards[-1]:+.3f}, so far {sum(rewards):.3f}"
    console.print(Text(line, style="dim"))


def _show_end(console: Console, played: Played) -> None:
    dialogue = played.dialogue
    reached = "goal reached" if dialogue.success else "goal not reached"
    turns = "1 turn" if dialogue.turn == 1 else f"{dialogue.turn} turns"
    lines = [f"{dialogue.stop_reason or 'you left'} after {turns}, {reached}"]
    lines.append(f"your return {sum(played.rewards):.3f}")
    if played.oracle_return is not None:
        lines.append(f"the oracle, who knows the hidden part, earns {played.oracle_return:.3f} here")
    hidden = dialogue.scenario.hidden
    if hidden:
        lines.append("hidden from you: " + ", ".join(f"{name} {_short(value)}" for name, value in hidden.items()))
    console.print(Panel(Text(visible("\n".join(lines))), title="The end", expand=False))


def _short(value: Json) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value!s:.60}"


def _obey(console: Console, command: str, dialogue: Dialogue, task: Task) -> None:
    if command == "/hint":
        try:
            console.print(Text(f"the oracle would say: {visible(task.oracle(dialogue))}", style="dim"))
        except NotImplementedError as error:
            console.print(Text(str(error), style="dim"))
    elif command == "/goal":
        _show_goal(console, dialogue, task)
    else:
        if command != "/help":
            console.print(Text(f"no command {command!r:.40}; begin with // to say it", style="red"))
        for name, meaning in COMMANDS.items():
            console.print(Text(f"  {name}  {meaning}", style="dim"))
