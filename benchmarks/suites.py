"""Suites of ``dialog-gym bench``, as data: which agents, in which worlds, with which budgets.

- ``smoke``: the whole road in minutes, with budgets that teach nothing.
- ``core``: every agent in every embedded world that it can act in (6 CPU hours, without the data).
- ``papers``: per published system its comparison. *Dialogue Action Tokens*: planners against a language model left
  alone and against the best constant prefix. *GELI*: PPO on rewards that were learned from one score per conversation.
  *Offline*: what imitation, a decision transformer and ILQL make of the same log. *SACPO*: one and two stages, and
  merges, on preferences for help and for safety. *Stable Alignment*: against imitation and DPO on the same ratings.

Every row begins with the language model that was made in its world, learns from the training items (``split="train"``,
seeds below a million), and is scored on the same held-out ones, speaking greedily (but ``lm-sampled``, and
``rollouts``, which draws what it plays out). Costs are paid for, at a price that keeps the world's budget, by those
that learn by playing. What several cells learn from is made once per world.

Settings are those of ``dialog_gym.benchmarks.{planners,offline,online,sacpo,stable_alignment,geli}``, where they were
chosen on training items; lengths of ``core`` are what fits into its hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dialog_gym.errors import unknown

Kind = Literal["baseline", "agent", "geli", "sacpo", "stable_alignment"]
Learns = Literal["", "episodes", "log", "rankings"]


@dataclass(frozen=True)
class World:
    """A column of the table.

    Attributes:
        name: ``"Bargain"`` is played as ``dialog_gym/Bargain-v0`` and as ``dialog_gym/BargainPrefix-v0``.
        lm: Language model that everybody begins with; "": the one of the package that was made in this world, and if
            there is none, one that is fitted on the world's self-play.
    """

    name: str
    lm: str = ""

    def env(self, *, vectors: bool = False) -> str:
        """Return the id of the environment, of words or of ``vectors``."""
        return f"dialog_gym/{self.name}{'Prefix' if vectors else ''}-v0"


@dataclass(frozen=True)
class Row:
    """A row of the table: who acts, and how it comes to be.

    Attributes:
        name: What the table calls it.
        kind: Who makes it: ``baseline`` (``dialog_gym.baselines``), ``agent`` (``dialog_gym.agents``), or a benchmark.
        made: Its name there.
        vectors: Whether it acts by vectors.
        learns: What from.
        seeded: Whether training or its own draws need several seeds; else what it says follows from the dialogue.
        args: Settings of training.
        where: Further ones by world.
    """

    name: str
    kind: Kind
    made: str
    vectors: bool = False
    learns: Learns = ""
    seeded: bool = True
    args: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings(self, world: str) -> dict[str, Any]:
        """Return its settings in ``world``."""
        return {**self.args, **self.where.get(world, {})}


@dataclass(frozen=True)
class Data:
    """What is made once per world.

    Attributes:
        log: Recorded dialogues for those that learn from a log, of the language model (sampled) in nine of ten and of
            the world's random policy in the rest.
        contexts: Dialogues in which a state is branched, for those that learn from rankings.
        k: Candidates of a state, sampled from the language model.
        plays: Copies of the state that each is played out on.
        self_play: Dialogues of self-play that a language model is fitted on, where the world has none.
        fit_epochs: Passes over them.
        reward_episodes: Dialogues that rewards are learned from (``geli``).
        reward_steps: Updates of such a reward.
        questions: That are answered and rated (``stable_alignment``); or contexts of help and safety (``sacpo``).
    """

    log: int = 3000
    contexts: int = 600
    k: int = 4
    plays: int = 3
    self_play: int = 4000
    fit_epochs: float = 3.0
    reward_episodes: int = 1000
    reward_steps: int = 400
    questions: int = 500


@dataclass(frozen=True)
class Part:
    """Rows that are compared in the same worlds."""

    worlds: tuple[World, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Suite:
    """What a benchmark is.

    Attributes:
        name: What it is called.
        parts: Of the table; of rows that have a name and a world in common, the first counts.
        seeds: Seeds 1, 2, ... of rows that need several.
        episodes: Held-out dialogues of a cell.
        recorded: How many of them are kept word by word.
        points: Evaluations during training.
        point_episodes: Dialogues of each.
        data: What is learned from.
    """

    name: str
    parts: tuple[Part, ...]
    seeds: int = 5
    episodes: int = 256
    recorded: int = 32
    points: int = 4
    point_episodes: int = 32
    data: Data = field(default_factory=Data)

    @property
    def rows(self) -> dict[str, Row]:
        """Its rows by name, in the order of the table."""
        found: dict[str, Row] = {}
        for part in self.parts:
            for row in part.rows:
                found.setdefault(row.name, row)
        return found

    @property
    def worlds(self) -> dict[str, World]:
        """Its worlds by name."""
        return {world.name: world for part in self.parts for world in part.worlds}

    def scaled(self, share: float) -> Suite:
        """Return the suite with ``share`` of every budget, at least one of each.

        Raises:
            ValueError: ``share`` is not above 0.
        """
        if not 0 < share < float("inf"):
            raise ValueError(f"a share of the budgets must be above 0, got {share}")
        if share == 1:
            return self
        parts = tuple(replace(part, rows=tuple(_scaled_row(row, share) for row in part.rows)) for part in self.parts)
        counts = {
            name: _part(getattr(self.data, name), share, least) for name, least in _LEAST.items() if name != "episodes"
        }
        return replace(
            self,
            parts=parts,
            episodes=_part(self.episodes, share, _LEAST["episodes"]),
            point_episodes=_part(self.point_episodes, share, 2),
            data=replace(self.data, **counts),
        )


_LEAST = {
    "episodes": 8,
    "log": 40,
    "contexts": 24,
    "self_play": 64,
    "reward_episodes": 64,
    "reward_steps": 4,
    "questions": 24,
}
"""Fewer than these cannot be learned from, whatever the share."""
_LENGTHS = {"steps": 1, "candidates": 16}


def _part(number: int, share: float, least: int) -> int:
    return max(least, round(number * share))


def _scaled_row(row: Row, share: float) -> Row:
    def scaled(args: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: _part(value, share, _LENGTHS[name]) if name in _LENGTHS else value for name, value in args.items()
        }

    return replace(row, args=scaled(row.args), where={world: scaled(args) for world, args in row.where.items()})


# --- the rows -----------------------------------------------------------------------------------

PAID: Mapping[str, Mapping[str, Any]] = {"Advice": {"budget": "task"}}
"""Who learns by playing where something costs keeps the budget."""
PLANNER_WORLDS: Mapping[str, Mapping[str, Any]] = {**PAID, "Chat": {"decompose": True}}
GREEDY = {"temperature": 0.0}
"""How who would draw its words is scored: as ``lm``, the 0 of the scale, and all others are."""
RANKED = {"epochs": 0.0}  # as long as ``steps`` says, whatever the number of pairs
CLEAR = {"share": 0.25}
"""Of pairs and labels those that differ most: KTO learns more from these, DPO in one world (see the log)."""
SACPO_STAGES = ("dpo:score:0.1?lr=0.0005&batch=32&epochs=1", "dpo:-cost:0.1?lr=0.00025&batch=16&epochs=2")


def baseline(name: str, *, vectors: bool = False, seeded: bool = False, **args: Any) -> Row:
    """Return the row of a policy that does not learn."""
    return Row(name, "baseline", name, vectors, "", seeded, args)


def planners(steps: int) -> tuple[Row, ...]:
    """Return the agents that steer a frozen language model by vectors."""
    return (
        Row("td3", "agent", "td3", True, "episodes", args={"steps": steps}, where=PLANNER_WORLDS),
        Row("sb3-ppo", "agent", "sb3", True, "episodes", args={"steps": steps, "algo": "ppo"}, where=PAID),
        Row("sb3-sac", "agent", "sb3", True, "episodes", args={"steps": steps, "algo": "sac"}, where=PAID),
    )


def from_log(imitate: int, transform: int, value: int) -> tuple[Row, ...]:
    """Return the agents that learn from recorded dialogues, with their numbers of updates."""
    return (
        *(Row(name, "agent", name, False, "log", args={"steps": imitate}) for name in ("tf", "tf_all", "tf_top")),
        Row("dt", "agent", "dt", False, "log", args={"steps": transform}),
        Row("ilql", "agent", "ilql", False, "log", args={"steps": value, **GREEDY}),
    )


def in_words(dialogues: int) -> tuple[Row, ...]:
    """Return the agents that learn from what they say."""
    args = {"steps": dialogues, "lora": 8, "lr": 1e-3, **GREEDY}
    return (Row("ppo", "agent", "ppo", False, "episodes", args=args, where=PAID),)


def from_rankings(updates: int) -> tuple[Row, ...]:
    """Return the agents that learn from rankings, with their numbers of updates."""
    shared = {"steps": updates, **RANKED}
    margins = {"batch": 16, "num_comp": 3, "rating_scale": 0.0, "lone": "plain", "too_long": "cut"}
    return (
        Row("dpo", "agent", "dpo", False, "rankings", args={**shared, **CLEAR, "lr": 5e-4, "batch": 32}),
        Row("kto", "agent", "kto", False, "rankings", args={**shared, **CLEAR, "lr": 1e-3, "batch": 32}),
        Row("sacpo", "agent", "sacpo", False, "rankings", args={"stages": SACPO_STAGES}),
        Row("stable_alignment", "agent", "stable_alignment", False, "rankings", args={"steps": updates, **margins}),
    )


FIXED = (baseline("random"), baseline("lm"), baseline("lm-sampled"), baseline("oracle"))
CONSTANT = baseline("constant", vectors=True, seeded=True, candidates=96)
ROLLOUTS = Row("rollouts", "agent", "rollouts", False, "", False, {"k": 4, "plays": 2})

WORLDS = (
    World("Bargain"),
    World("Advice"),
    World("Response"),
    World("Chat"),
    World("SocialGoal"),
    World("RedTeam"),
    World("Society"),
    World("DealOrNoDeal", "speaker:deal_or_no_deal"),
    World("CaSiNo", "speaker:casino"),
)
"""Those that are learned in soonest stand first."""
_BARGAIN, _ADVICE, _RESPONSE, _CHAT, _SOCIAL, _RED_TEAM, *_ = WORLDS

EVERYBODY = (*FIXED, CONSTANT, ROLLOUTS, *from_log(100, 200, 150), *from_rankings(100), *in_words(1280))
CORE = Suite("core", (Part(WORLDS, (*EVERYBODY, *planners(10_000))),))
SMOKE = replace(
    CORE,
    name="smoke",
    parts=(Part((_BARGAIN, _ADVICE), CORE.parts[0].rows),),
    seeds=2,
    points=2,
).scaled(0.02)

GELI_REWARDS = ("geli", "ge", "li", "true", "none")
SACPO_POLICIES = {
    "dpo-help": "DPO(H)",
    "dpo-safe": "DPO(S)",
    "kto-help": "KTO(H)",
    "sacpo-0.1": "DPO(H)>DPO(S) 0.1",
    "sacpo-1": "DPO(H)>DPO(S) 1",
    "p-sacpo-0.5": "P-SACPO 0.5",
    "naive-merge-0.5": "naive 0.5",
}
ALIGNED = {"tf_all-rated": "tf_all", "dpo-rated": "dpo", "stable_alignment-rated": "stable_alignment"}
PAPERS = Suite(
    "papers",
    (
        Part((_BARGAIN, _SOCIAL, _RED_TEAM), (*FIXED, CONSTANT, planners(30_000)[0])),
        Part((_BARGAIN, _RESPONSE), (*FIXED, *from_log(300, 400, 300))),
        Part(
            (_CHAT,),
            (
                *FIXED,
                *(Row(f"ppo-{name}", "geli", name, False, "episodes", args={"steps": 3200}) for name in GELI_REWARDS),
            ),
        ),
        Part(
            (_ADVICE,),
            (
                *FIXED,
                *(Row(name, "sacpo", made, False, "rankings") for name, made in SACPO_POLICIES.items()),
                *(
                    Row(name, "stable_alignment", made, False, "rankings", args={"steps": 250})
                    for name, made in ALIGNED.items()
                ),
            ),
        ),
    ),
    episodes=512,
    data=Data(log=8000),
)

SUITES: Mapping[str, Suite] = {suite.name: suite for suite in (SMOKE, CORE, PAPERS)}


def suite_of(name: str) -> Suite:
    """Return the suite called ``name``.

    Raises:
        KeyError: There is none; the message names the nearest.
    """
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]
