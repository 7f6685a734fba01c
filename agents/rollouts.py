"""Roll-outs: say what turns out best when it is tried, a planner without training.

Lewis et al. 2017, arXiv:1706.05125 (dialogue roll-outs). At each turn ``k`` candidates are drawn from a language
model, each is played out ``plays`` times to the end of the dialogue, and the one with the highest mean return is said;
of equals, the first. Dialogues fork (``dialog_gym.data.branch``), so every candidate is tried on the same copies.

Whom it is tried against:

- by default the partner itself, in a copy of the dialogue: its hidden state is the true one, its chance is fresh. That
  is more than any learner knows, and makes this an upper bound for planning with these candidates.
- ``model``: arguments that make another environment, for instance ``{"partner": "tiny"}``: a model of the partner,
  which has to guess from the words. What it earns there is imagined; what it earns in the end is not.

Differences from the paper: candidates that repeat are drawn again; the return is the task's, without a term for the
likelihood of an utterance; the plays are as many for each candidate.

The price is tokens, and is reported: ``cost`` has what the language model read (``prefilled``) and wrote
(``generated``) per turn said, ``plays`` and ``turns`` played out. ``train`` trains nothing: it plays ``eval_episodes``
dialogues and writes what they earned and cost. Run it with ``python -m dialog_gym.agents.rollouts``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dialog_gym import checkpoint
from dialog_gym.agent import Agent, Evaluate, args_from_json, config_of, main
from dialog_gym.agents.lm_data import task_of
from dialog_gym.agents.loop import NO_EFFECT, RunArgs, at_least, mean_return, one_process, torch_threads
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.data import branch
from dialog_gym.data.branch import Scoring, Talker
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, Sampling
from dialog_gym.runs import RunFolder
from dialog_gym.task import Task


@dataclass(frozen=True)
class Args(RunArgs):
    """Settings of the roll-out planner."""

    env: str = "dialog_gym/Bargain-v0"
    """Text environment."""
    out: str = "runs/rollouts"
    """Run folder."""
    lm: str = "tiny"
    """Language model that proposes candidates, and speaks on in the roll-outs."""
    k: int = 8
    """Candidates per turn, at least 2."""
    plays: int = 4
    """Roll-outs of each candidate."""
    by: str = "lm-sampled"
    """Who speaks on for the agent: lm, lm-sampled, a scripted policy of the world, or oracle."""
    temperature: float = 1.0
    """Of candidates and of lm-sampled."""
    max_tokens: int = 32
    """Longest utterance in tokens."""
    model: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment in which it imagines, beside env_kwargs; none: the partner itself."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 2, "k")
        at_least(self, 1, "plays", "max_tokens")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0 for candidates to differ, got {self.temperature}")


class Rollouts(Agent):
    """Says the candidate that does best when played out.

    Attributes:
        args: Its settings.
        turns: Turns it has said.
        plays: Roll-outs it has made.
    """

    name = "rollouts"

    def __init__(self, args: Args) -> None:
        """Plan by ``args``; models and environments are made when they are needed."""
        self.args, self.turns, self.plays = args, 0, 0
        self._spent = [0, 0]

    @cached_property
    def imagined(self) -> Task:
        """The task that candidates are played out in."""
        return task_of(self.args.env, {**self.args.env_kwargs, **self.args.model}, by_text=True)

    @cached_property
    def lm(self) -> LanguageModel:
        """The language model that speaks for the agent."""
        return load(self.args.lm)

    @cached_property
    def _proposes(self) -> Talker:
        return self._speaking(self.args.temperature)

    @cached_property
    def _goes_on(self) -> Talker:
        if self.args.by == "lm-sampled":
            return self._proposes
        if self.args.by == "lm":
            return self._speaking(0.0)
        return branch.talker(self.imagined, self.args.by)

    def _speaking(self, temperature: float) -> Talker:
        sampling = Sampling(self.args.max_tokens, temperature)
        return branch.model_talker(self.imagined, self.lm, sampling)

    def act(self, observations: Any, infos: Mapping[str, Any] | None = None) -> list[str]:
        """Return the best candidate of each row, ``""`` where the dialogue is over.

        Raises:
            ValueError: ``infos`` has no dialogues.
        """
        dialogues = (infos or {}).get("dialogue")
        if dialogues is None:
            raise ValueError("roll-outs fork the dialogues in infos['dialogue'], and this environment gives none")
        live = [row for row, dialogue in enumerate(dialogues) if not dialogue.stop_reason]
        texts = [""] * len(dialogues)
        for row, text in zip(live, self.best([dialogues[row] for row in live]), strict=True):
            texts[row] = text
        return texts

    def best(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Return the candidate with the highest mean return in each dialogue, none of them over."""
        counts = self.lm.counts
        before = counts.prefilled, counts.generated
        said = branch.candidates(self.imagined, dialogues, [self._proposes], self.args.k)
        open_ = [place for place, texts in enumerate(said) if len(texts) > 1]
        scoring = Scoring(self.args.plays, self._goes_on)
        scores = branch.scores(self.imagined, [dialogues[i] for i in open_], [said[i] for i in open_], scoring)
        chosen = [texts[0] for texts in said]
        for place, (earned, _) in zip(open_, scores, strict=True):
            chosen[place] = said[place][int(earned.mean(axis=1).argmax())]
            self.plays += earned.size
        self.turns += len(dialogues)
        self._spent = [self._spent[0] + counts.prefilled - before[0], self._spent[1] + counts.generated - before[1]]
        return chosen

    @property
    def cost(self) -> dict[str, float]:
        """What a turn has cost so far, by name: tokens read and written by the language model, and roll-outs."""
        turns = max(self.turns, 1)
        return {
            "prefilled": self._spent[0] / turns,
            "generated": self._spent[1] / turns,
            "plays": self.plays / turns,
        }

    def save(self, folder: str | Path) -> None:
        """Write the settings: there are no weights."""
        checkpoint.write(folder, self.name, {}, {"args": asdict(self.args)})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        _, data = checkpoint.read(folder, cls.name)
        try:
            return cls(args_from_json(Args, data["args"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder} does not fit this version of {cls.name}: {error}") from error


def train(args: Args, *, evaluate: Evaluate | None = None) -> Rollouts:
    """Play ``args.eval_episodes`` dialogues, and write returns and cost to the run folder ``args.out``.

    Args:
        args: Every setting; ``steps`` and the like mean nothing here.
        evaluate: Instead of the mean return.

    Raises:
        ValueError: The environment is no text environment, somebody in ``args`` is unknown, or several processes
            were started.
    """
    one_process("rollouts")
    config = config_of(Rollouts.name, args, apart_from=NO_EFFECT)
    with torch_threads(args.threads), RunFolder.open(args.out, config, track=args.track) as run:
        if run.finished:
            return Rollouts.load(run.agent_folder)
        agent = Rollouts(args)
        metrics = dict((evaluate or mean_return(args))(agent))
        metrics |= {f"cost/{name}_per_turn": value for name, value in agent.cost.items()}
        run.log(0, metrics)
        run.save_agent(agent)
        run.finish(metrics)
        return agent


if __name__ == "__main__":
    main("rollouts")
