"""Checks of a ``Task``: it keeps no memory, hides what is private, ends, and rewards in its range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dialog_gym.checks.base import (
    Check,
    Finding,
    copied,
    findings,
    global_chance_untouched,
    is_json,
    need,
    raise_problems,
)
from dialog_gym.checks.playing import Playing, Step, heard
from dialog_gym.checks.reward import reward_findings
from dialog_gym.checks.world import PROMISES, WORLD_CHECKS
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import advance, begin
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.other import OtherReward
from dialog_gym.task import Reply, Task
from dialog_gym.world import World

_IN_STATE = "keep what the partner remembers in Reply.state and take chance from dialogue.draws(name), not from self"


def check_task(task: Task) -> None:
    """Check that ``task`` keeps the contract of ``Task``; of ``World`` too if it is one.

    Plays a few short dialogues. A partner that is a language model must answer greedily, or the same twice.

    Raises:
        ContractError: It does not; the message tells every problem and what to do.
    """
    raise_problems(type(task).__name__, task_findings(task))


def task_findings(task: Task) -> list[Finding]:
    """Return what every check of a task found; of a world with another reward, all but what it promises of its own."""
    subject = Playing(task)
    found = findings(_FIRST, _THEN, subject)
    if len(found) <= len(_FIRST):  # it could not be played
        return found
    said = [step.after for step in subject.steps]
    rewards = {"reward": task.reward, **({} if task.cost is None else {"cost": task.cost}), **task.signals}
    for name, reward in rewards.items():
        found += [Finding(f"{name}: {check}", problem) for check, problem in reward_findings(reward, said)]
    if isinstance(task, World):
        found += findings(WORLD_CHECKS, [] if isinstance(task.reward, OtherReward) else PROMISES, subject)
    return found


def _settings(subject: Playing) -> None:
    task = subject.task
    roles = getattr(task, "roles", None)
    need(
        isinstance(roles, tuple) and len(set(roles)) == 2 and all(isinstance(role, str) and role for role in roles),
        f"roles must be a pair of two different names, the agent's first, got {roles!r}",
    )
    for name in ("max_turns", "max_chars"):
        number = getattr(task, name, None)
        need(isinstance(number, int) and number >= 1, f"{name} must be an integer of at least 1, got {number!r}")
    need(
        isinstance(getattr(task, "reward", None), Reward),
        f"reward must be a dialog_gym.rewards.base.Reward, got {type(getattr(task, 'reward', None)).__name__}; "
        "set `reward = MyReward()` in the class",
    )
    need(task.cost is None or isinstance(task.cost, Reward), f"cost must be a Reward or None, got {task.cost!r:.60}")
    need(
        isinstance(task.signals, Mapping) and all(isinstance(signal, Reward) for signal in task.signals.values()),
        f"signals must be Rewards by name, got {task.signals!r:.60}",
    )


def _scenario(subject: Playing) -> None:
    for seed in subject.seeds:
        with global_chance_untouched():
            first, again = (subject.task.scenario(Draws(seed, "scenario")) for _ in range(2))
        need(isinstance(first, Scenario), f"scenario() must return a Scenario, got {type(first).__name__}")
        need(
            first == again,
            "scenario() gave two scenarios for the same draws; take every choice from the `draws` it is given",
        )
        need(
            is_json(first.to_json()),
            f"a scenario must survive JSON, but does not: {first.hidden!r:.120}; use numbers, text, lists and dicts "
            "with text as keys",
        )


def _opening(subject: Playing) -> None:
    task = subject.task
    for seed in subject.seeds:
        opened = begin(task, seed)
        need(isinstance(opened, Dialogue), f"opening() must return a Dialogue, got {type(opened).__name__}")
        need(
            opened.roles == task.roles and opened.seed == seed,
            f"opening() must keep roles {task.roles} and seed {seed}, got {opened.roles} and {opened.seed}",
        )
        need(
            opened.turn == 0 and not opened.stop_reason,
            "opening() must leave the first word to the agent, in a dialogue that goes on",
        )
        need(is_json(dict(opened.state)), f"the opening state must be JSON by name, got {opened.state!r:.120}")
        need(opened == begin(task, seed), f"opening() gave two dialogues for seed {seed}; {_IN_STATE}")


def _plays(subject: Playing) -> None:
    with global_chance_untouched():
        need(subject.plays, "nothing was played")


def _replies(subject: Playing) -> None:
    for step in subject.steps:
        answers = subject.task.reply([heard(subject.task, step)])
        need(
            isinstance(answers, list) and len(answers) == 1 and isinstance(answers[0], Reply),
            f"reply() must return a list with one Reply per dialogue, got {answers!r:.80}",
        )
        text, state, stop_reason, success = answers[0]
        need(
            isinstance(text, str) and isinstance(stop_reason, str) and isinstance(success, bool),
            f"a Reply is (text, state, stop_reason: text, success: bool), got {tuple(answers[0])!r:.120}",
        )
        need(state is None or is_json(dict(state)), f"the state in a Reply must be JSON by name, got {state!r:.120}")


def _goes_on_as_itself(subject: Playing) -> None:
    for step in subject.steps:
        (after,), (reward,), *_ = advance(subject.task, [copied(step.before)], [step.text])
        need(
            (after, reward) == (step.after, step.reward),
            f"a dialogue read back from JSON went on differently {_where(step)}: {_newest(after)} and reward "
            f"{reward:g}, before it was {_newest(step.after)} and {step.reward:g}; {_IN_STATE}",
        )


def _batch_does_not_matter(subject: Playing) -> None:
    steps = subject.steps
    for order in (steps, steps[::-1]):
        together = advance(subject.task, [step.before for step in order], [step.text for step in order])
        for step, after, reward in zip(order, together.dialogues, together.rewards, strict=True):
            need(
                after == step.after and abs(reward - step.reward) < 1e-5,
                f"an answer depends on the dialogues beside it {_where(step)}: alone {_newest(step.after)}, in a "
                f"batch {_newest(after)}; let each answer depend on its own dialogue alone",
            )


def _state_is_not_changed(subject: Playing) -> None:
    for seed in subject.seeds:
        dialogue = begin(subject.task, seed)
        while not dialogue.stop_reason:
            before = copied(dialogue)
            (after,), *_ = advance(subject.task, [dialogue], [next(iter(subject.speakers.values()))(dialogue)])
            need(
                copied(dialogue) == before,
                "reply() changed the dialogue that it answered; make a new state: {**dialogue.state, ...}",
            )
            dialogue = after


def _ends_with_a_reason(subject: Playing) -> None:
    limit = subject.task.max_turns
    for steps in subject.plays:
        last = steps[-1].after
        early = last.stop_reason == "max_turns" and last.turn < limit
        need(not early, 'reply() stopped with "max_turns", the environment\'s own word; give another reason')


def _private_stays_private(subject: Playing) -> None:
    agent, partner = subject.task.roles
    for step in subject.steps:
        dialogue, goal = step.before, step.before.scenario.private.get(partner, "")
        told = "keep it in Scenario.private[partner] and Scenario.hidden, out of public and the agent's own text"
        need(
            not goal or goal not in dialogue.brief(agent),
            f"the agent is told the partner's private goal {goal!r:.60}; {told}",
        )
        private = {**dialogue.scenario.private, partner: "Another goal."}
        other = replace(dialogue, scenario=replace(dialogue.scenario, private=private))
        need(
            subject.task.messages(other, agent) == subject.task.messages(dialogue, agent),
            f"messages() for the agent depends on the partner's private goal; {told}",
        )


def _messages(subject: Playing) -> None:
    agent = subject.task.roles[0]
    for step in subject.steps:
        for dialogue, role in ((step.before, agent), (heard(subject.task, step), subject.task.roles[1])):
            chat = subject.task.messages(dialogue, role)
            _need_chat(chat, len(dialogue.turns), role == agent)
            spoke = ["assistant" if turn.role == role else "user" for turn in dialogue.turns]
            named = [message["role"] for message in chat]
            need(
                named[len(chat) - len(spoke) :] == spoke,
                f"messages() for {role!r} must name its own turns 'assistant' and the other's 'user', in the order of "
                f"the turns; got {named}",
            )
        state = step.after.state
        need(
            subject.task.messages(replace(step.before, state=state), agent)
            == subject.task.messages(step.before, agent),
            "messages() for the agent depends on the partner's hidden state; derive it from scenario and turns alone",
        )


def _need_chat(chat: Any, turns: int, agent: bool) -> None:
    whole = isinstance(chat, list) and all(set(message) == {"role", "content"} for message in chat)
    need(
        whole and all(isinstance(message["content"], str) for message in chat),
        f'messages() must return a list of {{"role": ..., "content": text}}, got {chat!r:.120}',
    )
    named = [message["role"] for message in chat]
    # A partner that is under test itself may be told nothing; what comes before the turns is the task's to choose.
    need(
        not agent or named[:1] == ["system"],
        f"messages() for the agent must begin with the system message, got {named[:1]}; tell the role and its goal",
    )
    need("system" not in named[1:], f"only the first of messages() may be the system message, got {named}")
    brief = named[:1].count("system")
    need(
        len(chat) >= brief + turns,
        f"messages() must have one message per turn, {turns}, beside the system message, got {len(chat) - brief}",
    )


def _utterance(subject: Playing) -> None:
    task = subject.task
    for step in subject.steps:
        for written in ("yes", "", " hello \n"):
            text = task.utterance(step.before, written)
            need(
                isinstance(text, str) and len(text) <= task.max_chars,
                f"utterance() must return text of at most {task.max_chars} characters, got {text!r:.60}",
            )


def _hooks_of_models(subject: Playing) -> None:
    task = subject.task
    for step in subject.steps:
        dialogue = heard(task, step)
        settled, after, broken = task.settled(dialogue), task.heard(dialogue, "I see."), task.contradicts(step.after)
        need(
            settled is None or isinstance(settled, Reply),
            f"settled() must return a Reply or None, got {settled!r:.60}",
        )
        need(isinstance(after, Reply), f"heard() must return a Reply, got {after!r:.60}")
        need(
            broken is None or isinstance(broken, bool),
            f"contradicts() must return True, False or None, got {broken!r:.60}",
        )


def _where(step: Step) -> str:
    return f"after the agent's {step.text!r:.40} (seed {step.before.seed}, turn {step.after.turn})"


def _newest(dialogue: Dialogue) -> str:
    return f"{dialogue.turns[-1].text!r:.60}" if dialogue.turns else "silence"


_FIRST: list[Check[Playing]] = [
    ("settings", _settings),
    ("scenario by its draws", _scenario),
    ("opening", _opening),
    ("plays to the end", _plays),
    ("replies", _replies),
]
_THEN: list[Check[Playing]] = [
    ("JSON goes on as itself", _goes_on_as_itself),
    ("any batch, any order", _batch_does_not_matter),
    ("dialogues unchanged", _state_is_not_changed),
    ("ends", _ends_with_a_reason),
    ("private stays private", _private_stays_private),
    ("messages", _messages),
    ("utterance", _utterance),
    ("a model as the partner", _hooks_of_models),
]
