"""Rewards: functions from dialogues to numbers, and a small language to compose them.

``0.7 * Success() + 0.3 * Affect()`` is a reward. Names are imported when they are first asked for: some need torch.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialog_gym.rewards.affect import Affect as Affect
    from dialog_gym.rewards.base import Reward as Reward
    from dialog_gym.rewards.base import reward as reward
    from dialog_gym.rewards.bert_score import BertClick as BertClick
    from dialog_gym.rewards.bert_score import BertScore as BertScore
    from dialog_gym.rewards.bleurt import Bleurt as Bleurt
    from dialog_gym.rewards.comparison import PairJudge as PairJudge
    from dialog_gym.rewards.increments import potential as potential
    from dialog_gym.rewards.judge import Judge as Judge
    from dialog_gym.rewards.length import Length as Length
    from dialog_gym.rewards.multiwoz import MultiWozOutcome as MultiWozOutcome
    from dialog_gym.rewards.other import with_cost as with_cost
    from dialog_gym.rewards.other import with_reward as with_reward
    from dialog_gym.rewards.outcome import Success as Success
    from dialog_gym.rewards.outcome import TaskReward as TaskReward
    from dialog_gym.rewards.perplexity import Perplexity as Perplexity
    from dialog_gym.rewards.repetition import Repetition as Repetition
    from dialog_gym.rewards.reward_model import RewardModel as RewardModel
    from dialog_gym.rewards.reward_training import train_reward_model as train_reward_model
    from dialog_gym.rewards.similarity import Similarity as Similarity
    from dialog_gym.rewards.text_metrics import Bleu as Bleu
    from dialog_gym.rewards.text_metrics import Chrf as Chrf
    from dialog_gym.rewards.text_metrics import Meteor as Meteor
    from dialog_gym.rewards.text_metrics import WordOverlap as WordOverlap
    from dialog_gym.rewards.yes_no import YesNoJudge as YesNoJudge

_HOMES = {
    "Affect": "affect",
    "BertClick": "bert_score",
    "BertScore": "bert_score",
    "Bleu": "text_metrics",
    "Bleurt": "bleurt",
    "Chrf": "text_metrics",
    "Judge": "judge",
    "Length": "length",
    "Meteor": "text_metrics",
    "MultiWozOutcome": "multiwoz",
    "PairJudge": "comparison",
    "Perplexity": "perplexity",
    "Repetition": "repetition",
    "Reward": "base",
    "RewardModel": "reward_model",
    "Similarity": "similarity",
    "Success": "outcome",
    "TaskReward": "outcome",
    "WordOverlap": "text_metrics",
    "YesNoJudge": "yes_no",
    "potential": "increments",
    "reward": "base",
    "train_reward_model": "reward_training",
    "with_cost": "other",
    "with_reward": "other",
}

__all__ = [
    "Affect",
    "BertClick",
    "BertScore",
    "Bleu",
    "Bleurt",
    "Chrf",
    "Judge",
    "Length",
    "Meteor",
    "MultiWozOutcome",
    "PairJudge",
    "Perplexity",
    "Repetition",
    "Reward",
    "RewardModel",
    "Similarity",
    "Success",
    "TaskReward",
    "WordOverlap",
    "YesNoJudge",
    "potential",
    "reward",
    "train_reward_model",
    "with_cost",
    "with_reward",
]


def shipped() -> dict[str, Any]:
    """Return the classes of the rewards that ship with the library, by name; ``Reward`` itself is none."""
    from dialog_gym.rewards.base import Reward

    found = {name: __getattr__(name) for name in _HOMES if name[0].isupper()}
    return {name: kind for name, kind in found.items() if kind is not Reward and issubclass(kind, Reward)}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"dialog_gym.rewards.{_HOMES[name]}"), name)
    near = difflib.get_close_matches(name, _HOMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(__all__)}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name)
