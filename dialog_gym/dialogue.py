"""What a dialogue is: ``Turn``, ``Scenario`` and ``Dialogue``, three immutable values.

Everything that matters about a dialogue is in the value: who said what, what each role knows, the
hidden state of the partner, the seed, and how it stopped. Hence a copy is a reference, a fork is a
copy, and ``Dialogue.from_json(dialogue.to_json())`` continues exactly like the original.

Randomness is a function of (seed, turn), never of call order: ``dialogue.draws("partner")`` gives
the same numbers however many dialogues are stepped beside this one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Json = Any
"""Anything ``json.dumps`` takes: None, bool, int, float, str, and lists and dicts of these."""

_MASK = (1 << 64) - 1


class Draws:
    """A small stream of random numbers named by a key, for one decision of one turn.

    SplitMix64 (Steele et al. 2014, doi:10.1145/2714064.2660195). A ``numpy.random.Generator`` costs
    about 15 microseconds to seed, a stream of these less than one, so that every turn of every
    dialogue can own one. Not for cryptography.

    >>> Draws(7, "partner", 3).uniform() == Draws(7, "partner", 3).uniform()
    True
    """

    __slots__ = ("_state",)

    def __init__(self, *key: int | str) -> None:
        """Begin the stream that ``key`` names: integers (any size and sign) and strings."""
        state = 0x9E3779B97F4A7C15
        for part in key:
            number = _of_text(part) if isinstance(part, str) else part
            state = _mix((state ^ (number & _MASK)) + 0x9E3779B97F4A7C15)
            while (number := number >> 64) not in (0, -1):  # further words of a long integer
                state = _mix((state ^ (number & _MASK)) + 0xD1B54A32D192ED03)
        self._state = state

    def bits(self) -> int:
        """Return the next 64 random bits as an integer."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        return _mix(self._state)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * (self.bits() >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high)."""
        return low + (self.bits() * (high - low) >> 64)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of ``options``, all equally likely."""
        return options[self.bits() * len(options) >> 64]

    def normal(self) -> float:
        """Return a number of the standard normal distribution (Box-Muller)."""
        return math.sqrt(-2.0 * math.log(1.0 - self.uniform())) * math.cos(2.0 * math.pi * self.uniform())


def _mix(z: int) -> int:
    z &= _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


_TEXT_KEYS: dict[str, int] = {}  # the few stream names a program uses


def _of_text(text: str) -> int:
    number = _TEXT_KEYS.get(text)
    if number is None:
        number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
        if len(_TEXT_KEYS) < 4096:
            _TEXT_KEYS[text] = number
    return number


class Turn(NamedTuple):
    """One utterance of one role."""

    role: str
    text: str


def turn_line(turn: Turn) -> str:
    """Return a turn as a line of a transcript; further lines of the text are indented, so that they forge no turn."""
    role, text = turn
    if "\n" in text or "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n    ")
    return f"{role}: {text}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is settled before the first word.

    Attributes:
        public: What both roles know, as text.
        private: What each role alone knows (its goal), as text by role.
        hidden: Parameters of the game that no role is told in words, JSON by name.
    """

    public: str
    private: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the scenario as plain JSON values."""
        return {"public": self.public, "private": dict(self.private), "hidden": dict(self.hidden)}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Scenario:
        """Rebuild what ``to_json`` returned."""
        return cls(str(data["public"]), dict(data["private"]), dict(data["hidden"]))


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The ordered turns so far, with scenario, seed, hidden state and status.

    Attributes:
        scenario: What was settled at reset.
        roles: The agent's role and the partner's, in this order.
        seed: Source of all randomness in this dialogue, a non-negative integer.
        turns: What has been said, oldest first.
        state: Hidden state of the partner, JSON by name. Treat as immutable.
        stop_reason: Why the dialogue ended, ``""`` while it goes on.
        success: Whether the agent's goal was reached.
        turn: Number of utterances the agent has made; counted when it is not given (every step of an
            environment asks for it, so it is kept).
    """

    scenario: Scenario
    roles: tuple[str, str]
    seed: int = 0
    turns: tuple[Turn, ...] = ()
    state: Mapping[str, Json] = field(default_factory=dict)
    stop_reason: str = ""
    success: bool = False
    turn: int = field(default=-1, compare=False)

    def __post_init__(self) -> None:
        """Count the agent's turns unless they were given."""
        if self.turn < 0:
            object.__setattr__(self, "turn", [role for role, _ in self.turns].count(self.roles[0]))

    def said(self, role: str, text: str) -> Dialogue:
        """Return a copy in which ``role`` has said one more utterance."""
        return replace(self, turns=(*self.turns, Turn(role, text)), turn=-1)

    def texts(self, role: str) -> list[str]:
        """Return what ``role`` has said, oldest first."""
        return [turn.text for turn in self.turns if turn.role == role]

    def draws(self, name: str, *key: int | str) -> Draws:
        """Return the random stream ``name`` of the present turn, the same whenever it is asked for."""
        return Draws(self.seed, name, len(self.turns), *key)

    def transcript(self, role: str) -> str:
        """Return what ``role`` can see: public context, its own private goal, and the turns."""
        return "\n".join([self.brief(role), *map(turn_line, self.turns)])

    def brief(self, role: str) -> str:
        """Return what ``role`` knows before the first word; the other's goal is left out."""
        private = self.scenario.private.get(role)
        return f"{self.scenario.public}\n{private}" if private else self.scenario.public

    def messages(self, role: str) -> list[dict[str, str]]:
        """Return the chat as ``role`` would continue it: system, then assistant for its own turns."""
        chat = [{"role": "system", "content": self.brief(role)}]
        chat += [{"role": "assistant" if t.role == role else "user", "content": t.text} for t in self.turns]
        return chat

    def to_json(self) -> dict[str, Json]:
        """Return the dialogue as plain JSON values."""
        return {
            "scenario": self.scenario.to_json(),
            "roles": list(self.roles),
            "seed": self.seed,
            "turns": [{"role": turn.role, "text": turn.text} for turn in self.turns],
            "state": dict(self.state),
            "stop_reason": self.stop_reason,
            "success": self.success,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json] | str) -> Dialogue:
        """Rebuild what ``to_json`` returned, or the text ``json.dumps`` made of it.

        Raises:
            ValueError: A field is missing or of the wrong kind.
        """
        try:
            read = json.loads(data) if isinstance(data, str) else data
            agent, partner = read["roles"]
            return cls(
                scenario=Scenario.from_json(read["scenario"]),
                roles=(str(agent), str(partner)),
                seed=int(read["seed"]),
                turns=tuple(Turn(str(turn["role"]), str(turn["text"])) for turn in read["turns"]),
                state=dict(read["state"]),
                stop_reason=str(read["stop_reason"]),
                success=bool(read["success"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "expected a dialogue as Dialogue.to_json() writes it (scenario, roles, seed, turns, state, "
                f"stop_reason, success), got {str(data)!r:.120}: {type(error).__name__} {error}"
            ) from error
