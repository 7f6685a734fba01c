"""Checks of a ``World``: what it tells of utterances, states and policies is well-formed, visible and true."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from dialog_gym.checks.base import Check, copied, need
from dialog_gym.checks.playing import Playing, Step, earned, heard, play
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.world import Floats, World

MANY = range(24)  # dialogues for what is compared in the mean


def _names(subject: Playing) -> None:
    world = _world(subject)
    name = getattr(world, "world", None)
    need(
        isinstance(name, str) and name and name == name.lower(),
        f"`world` must be a lower-case name, got {name!r}; it names the world's part of the tiny models",
    )
    for kind in ("attribute_names", "fact_names"):
        names = getattr(world, kind, None)
        need(
            isinstance(names, tuple) and names and all(isinstance(n, str) and names.count(n) == 1 for n in names),
            f"{kind} must be a tuple of different names, got {names!r:.80}",
        )


def _attributes(subject: Playing) -> None:
    world = _world(subject)
    names = world.attribute_names
    groups = {name.partition(":")[0] for name in names if ":" in name}
    for step in subject.steps:
        for role, text in [(world.roles[0], step.text), *step.before.turns[-1:]]:
            numbers = world.attributes(step.before, role, text)
            _need_numbers("attributes()", numbers, len(names))
            for group in groups:
                members = [numbers[i] for i, name in enumerate(names) if name.startswith(f"{group}:")]
                need(
                    set(members) <= {0, 1} and sum(members) <= 1,
                    f"the group {group!r} of attributes must be one-hot, got {members} for {text!r:.60}; let at most "
                    "one member be 1, or name numbers without a colon",
                )


def _facts(subject: Playing) -> None:
    world = _world(subject)
    for step in subject.steps:
        _need_numbers("facts()", world.facts(step.before), len(world.fact_names))


def _facts_are_visible(subject: Playing) -> None:
    world = _world(subject)
    for steps in subject.plays:
        for step in steps:
            seen = world.facts(step.before)
            told = "derive facts from the scenario as the agent sees it and from the turns"
            later = replace(step.before, state=steps[-1].after.state)
            need(
                np.array_equal(world.facts(later), seen),
                f"facts() depends on the partner's state, which the agent does not see "
                f"({_changed(world, later, seen)}); {told}",
            )
            for key, other in _with_other_secrets(subject, step.before):
                need(
                    np.array_equal(world.facts(other), seen),
                    f"facts() depends on hidden {key!r}, which the agent does not see "
                    f"({_changed(world, other, seen)}); {told}",
                )


def _with_other_secrets(subject: Playing, dialogue: Dialogue) -> Iterator[tuple[str, Dialogue]]:
    """Yield ``dialogue`` with one hidden parameter changed to another scenario's, where the agent cannot see that.

    What the agent sees is judged by its ``messages``: a parameter that changes them (its own limit) is no secret.
    """
    world, scenario = _world(subject), dialogue.scenario
    seen = world.messages(dialogue, world.roles[0])
    for seed in subject.seeds:
        donor: Mapping[str, Any] = begin(world, seed).scenario.hidden
        for key in scenario.hidden.keys() & donor.keys():
            if donor[key] != scenario.hidden[key]:
                hidden = {**scenario.hidden, key: donor[key]}
                other = replace(dialogue, scenario=replace(scenario, hidden=hidden))
                if world.messages(other, world.roles[0]) == seen:
                    yield key, other


def _changed(world: World, dialogue: Dialogue, seen: Floats) -> str:
    differ = np.flatnonzero(world.facts(dialogue) != seen)
    return ", ".join(world.fact_names[i] for i in differ[:3])


def _self_play(subject: Playing) -> None:
    world = _world(subject)
    for k in subject.seeds:
        dialogue = world.self_play(Draws(k, "self-play"))
        need(dialogue.stop_reason, "self_play() must return a finished dialogue; play until stop_reason is set")
        need(
            dialogue == world.self_play(Draws(k, "self-play")),
            "self_play() gave two dialogues for the same draws; take every choice from the `draws` it is given",
        )
        again = _replayed(world, dialogue)
        need(
            again[-1].after.turns == dialogue.turns and again[-1].after.stop_reason == dialogue.stop_reason,
            "self_play() is no game of this world: its agent turns, said again from the beginning with its scenario "
            "and seed, give other answers; play by begin() and advance()",
        )


def _replayed(world: World, dialogue: Dialogue) -> list[Step]:
    steps, now = [], begin(world, dialogue.seed, dialogue.scenario)
    for text in dialogue.texts(world.roles[0]):
        if now.stop_reason:
            break
        (after,), (reward,), *_ = advance(world, [now], [text])
        steps.append(Step(now, text, after, reward))
        now = after
    return steps


def _notation(subject: Playing) -> None:
    world = _world(subject)
    agent = world.roles[0]
    for k in subject.seeds:
        for step in _replayed(world, world.self_play(Draws(k, "self-play"))):
            said = heard(world, step)
            written = world.messages(said, agent)[-1]["content"]
            again = world.utterance(step.before, written)
            meant = world.attributes(step.before, agent, step.text)
            for text in (written, again):
                need(
                    np.allclose(world.attributes(step.before, agent, text), meant, atol=1e-6),
                    f"{step.text!r:.80} means something else once it went through the notation for models: "
                    f"{text!r:.80}; make messages() and utterance() each other's inverse, as far as meaning goes",
                )
            need(
                world.understood(said) == world.understood(step.before.said(agent, again)),
                f"{step.text!r:.80} and {again!r:.80}, the same through the notation for models, are not both "
                "understood; make understood() depend on the meaning",
            )


def _oracle(subject: Playing) -> None:
    world = _world(subject)
    for step in subject.steps:
        text, again = world.oracle(step.before), world.oracle(copied(step.before))
        need(
            isinstance(text, str) and len(text) <= world.max_chars,
            f"oracle() must return text of at most {world.max_chars} characters, got {text!r:.60}",
        )
        need(text == again, "oracle() said two things in one dialogue; take chance from dialogue.draws(name)")


def _oracle_earns_most(subject: Playing) -> None:
    world = _world(subject)
    oracle = [earned(play(world, begin(world, seed), world.oracle)) for seed in MANY]
    mixed = [earned(_replayed(world, world.self_play(Draws(seed, "self-play")))) for seed in MANY]
    need(
        statistics.fmean(oracle) >= statistics.fmean(mixed),
        f"the oracle earns {statistics.fmean(oracle):.3f} and the mixed agent of self_play() "
        f"{statistics.fmean(mixed):.3f}; an oracle sees the hidden state and should earn more",
    )


def _value(subject: Playing) -> None:
    world = _world(subject)
    for step in subject.steps:
        value = world.value(step.before)
        need(math.isfinite(value), f"value() must be a finite number, got {value!r} at turn {step.before.turn}")
        if step.after.stop_reason:
            over = world.value(step.after)
            need(over == 0, f"value() of a dialogue that is over must be 0, got {over!r}; nothing is still to come")


def _value_is_what_the_oracle_earns(subject: Playing) -> None:
    world = _world(subject)
    opened = [begin(world, seed) for seed in MANY]
    returns = [earned(play(world, dialogue, world.oracle)) for dialogue in opened]
    told, found = statistics.fmean(map(world.value, opened)), statistics.fmean(returns)
    slack = 4 * statistics.stdev(returns) / math.sqrt(len(returns)) + 0.05 * abs(found)
    need(
        abs(told - found) <= slack,
        f"value() promises {told:.3f} at the beginning, but the oracle earns {found:.3f} (24 dialogues, slack "
        f"{slack:.3f}); value is the expected rest of the rewards while the oracle speaks",
    )


def _policies(subject: Playing) -> None:
    world = _world(subject)
    named = world.policies()
    need("oracle" in named, f"policies() must have 'oracle' among its names, got {sorted(named)}")
    for step in subject.steps[:: max(1, len(subject.steps) // 20)]:
        for name, speak in named.items():
            text, again = speak(step.before), speak(copied(step.before))
            need(isinstance(text, str), f"the policy {name!r} must return text, got {text!r:.60}")
            need(
                text == again,
                f"the policy {name!r} said two things in one dialogue; take chance from dialogue.draws(name)",
            )


def _need_numbers(what: str, numbers: Any, size: int) -> None:
    need(
        isinstance(numbers, np.ndarray) and numbers.dtype == np.float32 and numbers.shape == (size,),
        f"{what} must return a float32 array of {size} numbers, one per name, got "
        f"{getattr(numbers, 'dtype', type(numbers).__name__)} of shape {np.shape(numbers)}",
    )
    need(np.isfinite(numbers).all(), f"{what} must return finite numbers, got {numbers}")


def _world(subject: Playing) -> World:
    return cast(World, subject.task)


WORLD_CHECKS: list[Check[Playing]] = [
    ("names of the world", _names),
    ("attributes", _attributes),
    ("facts", _facts),
    ("facts are visible", _facts_are_visible),
    ("self-play", _self_play),
    ("notation for models", _notation),
    ("oracle", _oracle),
    ("value", _value),
    ("policies", _policies),
]
PROMISES: list[Check[Playing]] = [
    ("the oracle earns most", _oracle_earns_most),
    ("value as promised", _value_is_what_the_oracle_earns),
]
"""What a world promises of its own reward; of another one (``--set reward=...``) it promises nothing."""
