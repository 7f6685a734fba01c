"""The society as a PettingZoo parallel environment: all agents answer at the same time and learn from each other.

A step is one utterance of every agent: in even steps the drafts, in odd ones the revisions. After the drafts each
agent sees what its peers say of its draft; after the revisions it sees its next question. Peers are the neighbours on
the grid, by the rules of ``society_grid``, and judge by the norms as well as their quality lets them; an agent whose
neighbourhood is empty hears nothing and may revise all the same.

Observation: text: what is to be done, the question that the agent remembers as most like this one with the answer it
gave, the question, and after the draft the draft and the feedback. Action: text. Reward: an observer's rating of the
alignment of the answer, 1 to 7, as a number in [0, 1], for the draft times .3 and for the revision times .7.
``infos``: ``alignment_before``, ``engagement_before``, ``alignment_after`` and ``engagement_after`` of the round (0
until they are known), ``round``, ``label`` and ``peers``. Truncated after ``rounds`` rounds, all agents at once.

Needs the extra ``pettingzoo``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import seeding

from dialog_gym.dialogue import Draws
from dialog_gym.env import begin
from dialog_gym.envs import society_members as members
from dialog_gym.envs.society import DRAFT, Society
from dialog_gym.envs.society_grid import labels, sample_peers
from dialog_gym.envs.society_members import Noise
from dialog_gym.envs.society_memory import Embeddings, Memory
from dialog_gym.envs.society_minds import AXES, Rated
from dialog_gym.envs.society_norms import LEAST, PEER_NOISE, Question, quality, share
from dialog_gym.envs.society_settings import Settings
from dialog_gym.spaces import Utterance

try:
    from pettingzoo import ParallelEnv
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the society as a parallel environment needs pettingzoo: pip install 'dialog-gym[pettingzoo]'",
        name="pettingzoo",
    ) from error

LONGEST = 1_000_000  # characters of an observation; a bound that the space must state and nothing meets
_SEEDS = 2**53


class SocietyParallel(ParallelEnv[str, str, str]):  # type: ignore[misc]
    """All agents of a society; see the module for the rules.

    Attributes:
        possible_agents: ``member_0``, ``member_1``, ...; member ``row * size + column`` lives at (row, column).
        agents: Those who play, all or none.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "dialog_gym_society_v0", "render_modes": ["ansi"]}

    def __init__(
        self,
        agents: int = 9,
        rounds: int = 4,
        setting: str = "mixed_half_half",
        *,
        peers: int = 4,
        radius: float | None = None,
        local: bool = True,
        everywhere: bool = False,
        dropout: float = 0.5,
        threshold: float = 0.3,
        split: str = "train",
        observer_noise: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        """Lay out the grid; the arguments are those of ``Settings``, and ``rounds`` of each episode.

        Raises:
            ValueError: They are no society.
        """
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {rounds}")
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        self.settings = Settings(
            agents, setting, 0, radius, local, everywhere, dropout, peers, 0, threshold, split=split,
            observer_noise=observer_noise,
        )  # fmt: skip
        self.rounds, self.render_mode = rounds, render_mode
        self.possible_agents = [f"member_{number}" for number in range(agents)]
        self.agents: list[str] = []
        self._task = Society(split=split, setting=setting)
        self._noise = Noise(PEER_NOISE, observer_noise)
        self._embeddings = Embeddings()
        self._actions = {name: Utterance(self._task.max_chars) for name in self.possible_agents}
        self._observations = {name: Utterance(LONGEST) for name in self.possible_agents}
        self._random, _ = seeding.np_random()

    def action_space(self, agent: str) -> Utterance:
        """Return what an agent may say."""
        return self._actions[agent]

    def observation_space(self, agent: str) -> Utterance:
        """Return what an agent may see."""
        return self._observations[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Begin an episode: who is good and who is bad is drawn anew, and nobody remembers anything."""
        if seed is not None:
            self._random, _ = seeding.np_random(seed)
        self._seed = int(self._random.integers(_SEEDS))
        self.agents = list(self.possible_agents)
        count, size = self.settings.agents, self.settings.size
        self._labels = labels(self.settings.setting, size, Draws(self._seed, "labels"))
        self._good = [quality(one, Draws(self._seed, "quality", number)) for number, one in enumerate(self._labels)]
        self._memories = [Memory(self._embeddings) for _ in range(count)]
        self._round, self._drafted = 0, False
        self._ask()
        return self._seen(), self._infos()

    def step(
        self, actions: dict[str, str]
    ) -> tuple[
        dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:  # fmt: skip
        """Let every agent say something.

        Raises:
            ValueError: Somebody who plays says nothing, or what is outside the action space.
        """
        if missing := [name for name in self.agents if actions.get(name) not in self._actions[name]]:
            raise ValueError(
                f"expected a text of at most {self._task.max_chars} characters of every agent, got "
                f"{actions.get(missing[0])!r:.80} of {missing[0]}; before reset and after the end nobody plays"
            )
        playing, rewards = self.agents, {}
        for number, name in enumerate(playing):
            rewards[name] = (
                self._revised(number, actions[name]) if self._drafted else self._draft(number, actions[name])
            )
        over = self._drafted and self._round + 1 == self.rounds
        self._drafted = not self._drafted
        infos = self._infos()
        if not self._drafted and not over:
            self._round += 1
            self._ask()
        seen = self._seen()
        ended = dict.fromkeys(playing, False)
        if over:
            self.agents = []
        return seen, rewards, ended, dict.fromkeys(playing, over), infos

    def render(self) -> str | None:
        """Return the grid as text: each member's label and the rating of its newest answer."""
        if self.render_mode is None:
            return None
        size = self.settings.size
        cells = [
            f"{'+' if label == 'good' else '-'}{self._ratings[k]['alignment_after'] or '.'}"
            for k, label in enumerate(self._labels)
        ]
        return "\n".join(" ".join(cells[row * size : (row + 1) * size]) for row in range(size))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _ask(self) -> None:
        """Give every agent a question."""
        count = self.settings.agents
        begun = [begin(self._task, Draws(self._seed, "question", self._round, k).bits() >> 11) for k in range(count)]
        self._questions: list[tuple[str, Question]] = [(d.turns[0].text, self._task.question(d)) for d in begun]
        self._drafts, self._feedback = [""] * count, [""] * count
        self._peers: list[list[int]] = [[] for _ in range(count)]
        axes = [f"{axis}_{when}" for when in ("before", "after") for axis in AXES]
        self._ratings = [dict.fromkeys(axes, 0) for _ in range(count)]

    def _draft(self, number: int, text: str) -> float:
        own, draws = self.settings, Draws(self._seed, "peers", self._round, number)
        question = self._questions[number][1]
        self._drafts[number] = text
        self._peers[number] = sample_peers(
            number, own.size, own.within, draws, local=own.local, everywhere=own.everywhere, dropout=own.dropout,
            count=own.peers,
        )  # fmt: skip
        told = [
            members.judge(
                question, text, self._good[p], self._noise, True, Draws(self._seed, "peer", self._round, number, p)
            )
            for p in self._peers[number]
        ]
        told.sort(key=lambda one: -(one.rating or 0.0))
        self._feedback[number] = " ".join(f"Rating {one.rating:g}: {one.text}" for one in told)
        return DRAFT * self._observe(number, text, "before")

    def _revised(self, number: int, text: str) -> float:
        self._memories[number].add(self._questions[number][0], text)
        return (1 - DRAFT) * self._observe(number, text, "after")

    def _observe(self, number: int, text: str, when: str) -> float:
        for axis in AXES:
            draws = Draws(self._seed, "observer", self._round, number, when, axis)
            rated: Rated = members.observe(self._questions[number][1], text, axis, self._noise, draws)
            self._ratings[number][f"{axis}_{when}"] = int(rated.rating or LEAST)
        return share(self._ratings[number][f"alignment_{when}"])

    def _seen(self) -> dict[str, str]:
        return {name: self._shown(number) for number, name in enumerate(self.agents)}

    def _shown(self, number: int) -> str:
        question, lines = self._questions[number][0], []
        if found := self._memories[number].nearest(question, self.settings.threshold):
            lines = [f"You remember: {found.question}", f"You said: {found.answer}"]
        if not self._drafted:
            return "\n".join([*lines, f"Question: {question}", "Draft an answer."])
        heard = self._feedback[number] or "Nobody is near."
        return "\n".join(
            [*lines, f"Question: {question}", f"Your draft: {self._drafts[number]}", f"Peers: {heard}", "Revise it."]
        )

    def _infos(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                **{key: np.float32(value) for key, value in self._ratings[number].items()},
                "round": self._round,
                "label": self._labels[number],
                "peers": list(self._peers[number]),
            }
            for number, name in enumerate(self.possible_agents)
        }
