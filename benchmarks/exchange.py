"""One exchange of words, played by three libraries: what is said, who answers, when it ends, what it earns.

A buyer and a seller speak in turn, ``turns`` times each, about 20 words at a time; both hear all. The buyer's words
are settled beforehand, the seller's depend on what was said to it. When the last answer is given, the buyer has earned
1. ``OurWay``, ``TextArenaWay`` and ``BareWay`` are here, ``verifiers`` is in ``exchange_verifiers.py``: each as users
of that library write it, with the observation that it builds. No way calls a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np

from dialog_gym import registration
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import DialogueEnv
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rollout import make_rows
from dialog_gym.task import Reply, Task

ENV_ID = "dialog_gym_speed/Exchange-v0"
PUBLIC = "A used bicycle is for sale. A buyer and a seller talk about its price, each in turn."
BUYER = "You are the buyer. Say what you would pay."
SELLER = "You are the seller. Say what you would take."
SAID = (
    "I would offer $41 for it, please, because I have seen a few of these go for less around here lately.",
    "Could you do $45 if I come by with cash and pick it up tonight, so you need not wait any longer?",
    "That is still more than I can spend, but I like it, so let us say $49 and call it a deal.",
    "No, I cannot go that high, it has some wear on it, my best is $52 and that is really all.",
)
HEARD = (
    "It is worth more than that to me, since it was serviced last month, so I could let it go for $72.",
    "Others have asked for it as well, and one of them will come by on Sunday, but make it $68 and wait no more.",
    "I hear you, and yet the lights and the lock come with it, so I would not go below $64 for all of it.",
    "For cash and tonight I could meet you some of the way, say $61, and that is nearly what I gave for it.",
)


def words(row: int, turn: int) -> str:
    """Return what the buyer of dialogue ``row`` says in its turn number ``turn``, from 0 on."""
    return SAID[(row + turn) % len(SAID)]


def answer(said: str, turn: int) -> str:
    """Return what the seller says to ``said`` in the buyer's turn number ``turn``, from 0 on."""
    return HEARD[(len(said) + turn) % len(HEARD)]


class Played(NamedTuple):
    """What came of one dialogue: what both said in turn, and what the buyer earned."""

    said: tuple[str, ...]
    earned: float


def expected(row: int, turns: int) -> Played:
    """Return what every way must have played in dialogue ``row``."""
    pairs = [(words(row, turn), answer(words(row, turn), turn)) for turn in range(turns)]
    return Played(tuple(text for pair in pairs for text in pair), 1.0)


class Way(Protocol):
    """A library that plays the exchange."""

    def play(self, count: int) -> list[Played]:
        """Play ``count`` dialogues, in parallel where the library can, and return each."""

    def close(self) -> None:
        """Let go of what is held."""


class Finished(Reward):
    """1 when the last answer is given, else 0."""

    name, low, high = "finished", 0.0, 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return which dialogues are over."""
        return np.array([d.stop_reason != "" for d in dialogues], np.float32)


class Exchange(Task):
    """The exchange as a task of ours."""

    roles = ("buyer", "seller")
    reward = Finished()

    def __init__(self, turns: int = 8) -> None:
        """Let both speak ``turns`` times."""
        self.max_turns = turns
        self._scenario = Scenario(PUBLIC, {"buyer": BUYER, "seller": SELLER})

    def scenario(self, draws: Draws) -> Scenario:
        """Return the one there is."""
        return self._scenario

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Answer by rule."""
        return [Reply(answer(d.turns[-1].text, d.turn - 1)) for d in dialogues]


class OurWay:
    """One dialogue in the environment of ``gym.make``, more in that of ``gym.make_vec``: a step per exchange."""

    def __init__(self, turns: int) -> None:
        """Let both speak ``turns`` times."""
        registration.register(ENV_ID, "dialog_gym.benchmarks.exchange:Exchange")
        self.turns = turns
        self.one = gym.make(ENV_ID, turns=turns)
        self.many: dict[int, gym.vector.VectorEnv[Any, Any, Any]] = {}

    def play(self, count: int) -> list[Played]:
        """Play ``count`` dialogues in step."""
        return [self._alone()] if count == 1 else self._together(count)

    def _alone(self) -> Played:
        self.one.reset()
        earned, over, turn = 0.0, False, 0
        while not over:
            _, reward, terminated, truncated, _ = self.one.step(words(0, turn))
            earned, over, turn = earned + float(reward), terminated or truncated, turn + 1
        env = self.one.unwrapped
        assert isinstance(env, DialogueEnv)
        assert env.dialogue is not None
        return Played(tuple(text for _, text in env.dialogue.turns), earned)

    def _together(self, count: int) -> list[Played]:
        env = self.many.get(count) or self.many.setdefault(count, make_rows(ENV_ID, count, {"turns": self.turns}))
        env.reset()
        earned, over, turn = np.zeros(count), np.zeros(count, bool), 0
        infos: dict[str, Any] = {}
        while not over.all():
            _, rewards, terminated, truncated, infos = env.step([words(row, turn) for row in range(count)])
            earned, over, turn = earned + rewards, terminated | truncated, turn + 1
        return [
            Played(tuple(text for _, text in dialogue.turns), total)
            for dialogue, total in zip(infos["dialogue"], earned.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Close the environments."""
        self.one.close()
        for env in self.many.values():
            env.close()


class TextArenaWay:
    """A game on TextArena's two-player state, seen through its ``LLMObservationWrapper``: a step per utterance.

    There is no batch: games are stepped one after the other. Every dialogue is a game made anew, since the wrapper
    keeps the observations of earlier episodes and slows down with each. No seed is given, so none is set.
    """

    def __init__(self, turns: int) -> None:
        """Let both speak ``turns`` times.

        Raises:
            ModuleNotFoundError: TextArena is not installed.
        """
        self.ta, self.turns = textarena(), turns
        if ENV_ID not in self.ta.envs.registration.ENV_REGISTRY:
            wrappers = [self.ta.wrappers.LLMObservationWrapper]
            self.ta.envs.registration.register(ENV_ID, _textarena_game(self.ta), wrappers)

    def play(self, count: int) -> list[Played]:
        """Play ``count`` games in step."""
        games = [self.ta.make(ENV_ID, turns=self.turns) for _ in range(count)]
        for game in games:
            game.reset(num_players=2)
        said: list[list[str]] = [[] for _ in games]
        for turn in range(self.turns):
            for row, game in enumerate(games):
                game.get_observation()
                text = words(row, turn)
                game.step(text)
                game.get_observation()
                heard = answer(text, turn)
                game.step(heard)
                said[row] += (text, heard)
        found = []
        for texts, game in zip(said, games, strict=True):
            earned, _ = game.close()
            found.append(Played(tuple(texts), float(earned[0])))
        return found

    def close(self) -> None:
        """Nothing is held."""


class BareWay:
    """No library: strings joined to a transcript, and the two rules. No environment does less in Python."""

    def __init__(self, turns: int) -> None:
        """Let both speak ``turns`` times."""
        self.turns = turns

    def play(self, count: int) -> list[Played]:
        """Play ``count`` dialogues in step."""
        transcripts = [f"{PUBLIC}\n{BUYER}"] * count
        said: list[list[str]] = [[] for _ in transcripts]
        for turn in range(self.turns):
            for row in range(count):
                text = words(row, turn)
                heard = answer(text, turn)
                transcripts[row] += f"\nbuyer: {text}\nseller: {heard}"
                said[row] += (text, heard)
        return [Played(tuple(texts), 1.0) for texts in said]

    def close(self) -> None:
        """Nothing is held."""


def textarena() -> Any:
    """Return the library.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    try:
        import textarena as ta
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this benchmark compares with TextArena, which needs {error.name}: pip install 'dialog-gym[bench]'",
            name=error.name,
        ) from error
    return ta


def _textarena_game(ta: Any) -> type[Any]:
    """Return the exchange as an environment of TextArena."""

    class Game(ta.Env):  # type: ignore[misc]
        """Both speak in turn; the last answer ends it."""

        def __init__(self, turns: int) -> None:
            self.turns = turns

        def reset(self, num_players: int, seed: int | None = None) -> None:
            """Begin."""
            self.state = ta.TwoPlayerState(num_players=num_players, seed=seed, max_turns=2 * self.turns)
            roles = {0: "buyer", 1: "seller"}
            self.state.reset(game_state={}, player_prompt_function=self._prompt, role_mapping=roles)

        def _prompt(self, player_id: int, game_state: Any) -> str:
            return f"{PUBLIC}\n{(BUYER, SELLER)[player_id]}"

        def step(self, action: str) -> tuple[bool, Any]:
            """Let the other hear ``action``; it is the other's turn then."""
            speaker = self.state.current_player_id
            self.state.add_observation(
                message=action, observation_type=ta.ObservationType.PLAYER_ACTION, from_id=speaker
            )
            if self.state.turn + 1 == self.state.max_turns:
                self.state.set_winner(0, "The last answer is given.")
            return self.state.step()  # type: ignore[no-any-return]

    return Game
