"""The metrics of ``Response-v0`` by name."""

from __future__ import annotations

from collections.abc import Callable

from dialog_gym.errors import unknown
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.bert_score import BertClick, BertScore
from dialog_gym.rewards.bleurt import Bleurt
from dialog_gym.rewards.text_metrics import Bleu, Chrf, Meteor, WordOverlap

_LEXICAL: dict[str, Callable[[], Reward]] = {"bleu": Bleu, "chrf": Chrf, "meteor": Meteor, "overlap": WordOverlap}
METRICS = (*_LEXICAL, "bertscore", "click", "bleurt")


def metric_named(metric: str | Reward, encoder: str | None = None) -> Reward:
    """Return the reward that ``metric`` names, or ``metric`` itself.

    Args:
        metric: ``"bleu"``, ``"chrf"``, ``"meteor"``, ``"overlap"`` (of words: lexical, no package), ``"bertscore"``,
            ``"click"``, ``"bleurt"``; or any reward, such as ``BertClick(BertScorer(FOLDER, 17, baseline=FILE))``:
            "click" alone does not rescale, and its threshold of .6 means something else with each encoder.
        encoder: For ``"bertscore"`` and ``"click"`` the folder of an encoder, by default that of the extra
            ``semantic``; for ``"bleurt"`` that of its checkpoint.

    Raises:
        ValueError: There is no such metric, or an encoder is given to a metric without one, or it is missing.
    """
    semantic: dict[str | Reward, Callable[[str], Reward]] = {"bertscore": BertScore, "click": BertClick}
    if encoder is not None and metric not in (*semantic, "bleurt"):
        raise ValueError(f"encoder goes with the metrics 'bertscore', 'click' and 'bleurt', got metric {metric!r:.60}")
    if isinstance(metric, Reward):
        return metric
    if metric in semantic:
        return semantic[metric](encoder or "semantic")
    if metric == "bleurt":
        if encoder is None:
            raise ValueError("the metric 'bleurt' needs encoder=, a folder with its checkpoint for transformers")
        return Bleurt(encoder)
    if metric not in _LEXICAL:
        raise ValueError(unknown("metric", str(metric), METRICS).args[0])
    return _LEXICAL[metric]()
