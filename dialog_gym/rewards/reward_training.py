"""Training of a reward model on rankings, by TRL's ``RewardTrainer`` (Bradley and Terry's model of preferences).

Deviations from TRL's defaults: float32 and no gradient checkpointing (small models on a CPU), chats that are too long
lose their beginning instead of being dropped, and the scores are normalised after training.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dialog_gym.chance import global_random_state_kept
from dialog_gym.rewards.reward_model import SETTINGS, RewardModel, load_scalar_model, quiet, raw_scores, token_ids

Pair = tuple[list[dict[str, str]], list[dict[str, str]]]
"""Two chats: what was chosen, and what was rejected."""


@global_random_state_kept()
def train_reward_model(
    pairs: Iterable[Mapping[str, Any]],
    base: str | Path,
    out: str | Path,
    *,
    epochs: float = 1.0,
    learning_rate: float = 1e-4,
    batch_size: int = 16,
    max_length: int | None = None,
    held_out: float = 0.1,
    centre: float = 0.01,
    limit: float = 4.0,
    seed: int = 0,
    device: str | None = None,
) -> RewardModel:
    """Train a model that scores the chosen above the rejected, and save it to ``out``.

    ``reward_model.json`` there says how well: ``accuracy`` is the share of held-out pairs in which the chosen scores
    higher. Pairs with the same prompt are all held out or none of them.

    Args:
        pairs: Mappings with ``prompt`` (messages before), ``chosen`` and ``rejected`` (messages, or a text that the
            assistant says); a ``datasets.Dataset`` is one.
        base: Folder or name of the model to begin with, causal or encoder; its new output is one number.
        out: Folder to write, which must not hold a reward model.
        epochs: Times each pair is seen.
        learning_rate: Of AdamW, falling linearly to 0.
        batch_size: Pairs per step.
        max_length: Longest chat in tokens; None: what the model takes.
        held_out: Share of the prompts that is not trained on, in [0, 1).
        centre: Weight of the penalty on the mean of the two outputs (Eisenstein et al. 2023, arXiv:2312.09244).
        limit: Scores are cut at this many standard deviations.
        seed: Of the new output and of the order of pairs.
        device: ``"cpu"`` keeps it off a GPU.

    Raises:
        ValueError: A pair is not of that form, there are none to train on, or ``out`` holds a reward model.
    """
    out, every = Path(out), _read(pairs)
    if (out / SETTINGS).exists():
        raise ValueError(f"{out} holds a reward model already; remove it or choose another folder")
    train, test = _split(every, held_out, seed)
    _seed(seed)
    model, tokenizer = load_scalar_model(base, device)
    arguments = {
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": batch_size,
        "center_rewards_coefficient": centre or None,
        "seed": seed,
    }
    model = _fitted(model, tokenizer, train, arguments, max_length)
    chats = [chat for pair in train for chat in pair]
    raw = raw_scores(model, tokenizer, chats, batch_size, max_length)
    settings = {
        "mean": float(raw.mean()),
        "std": max(float(raw.std()), 1e-6),
        "limit": float(limit),
        "max_length": max_length,
        "base": Path(base).name,
        "pairs": len(train),
        "held_out_pairs": len(test),
        "accuracy": _accuracy(model, tokenizer, test, batch_size, max_length),
        "training_accuracy": float((raw[0::2] > raw[1::2]).mean()),
        "training": arguments,
    }
    with quiet():
        model.save_pretrained(out, safe_serialization=True)
        tokenizer.save_pretrained(out)
    (out / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")  # last: now it is whole
    return RewardModel(out, device=device)


def _fitted(
    model: Any, tokenizer: Any, pairs: Sequence[Pair], arguments: Mapping[str, Any], longest: int | None
) -> Any:
    """Return ``model`` after training on ``pairs``."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    chosen, rejected = (token_ids(model, tokenizer, [pair[side] for pair in pairs], longest) for side in (0, 1))
    use_cache = getattr(model.config, "use_cache", None)
    with tempfile.TemporaryDirectory() as folder, quiet():
        config = RewardConfig(
            output_dir=folder,
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=model.device.type == "cpu",
            **arguments,
        )
        rows = Dataset.from_dict({"chosen_ids": chosen, "rejected_ids": rejected})
        trainer = RewardTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    if use_cache is not None:
        model.config.use_cache = use_cache  # the trainer leaves it off
    return model.eval()


def _read(pairs: Iterable[Mapping[str, Any]]) -> list[tuple[str, Pair]]:
    """Return each pair with its prompt as a key."""
    found = []
    for number, pair in enumerate(pairs):
        try:
            prompt = _messages(pair["prompt"], "user")
            chosen, rejected = (prompt + _messages(pair[side], "assistant") for side in ("chosen", "rejected"))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"pair {number}: expected 'prompt' (messages), 'chosen' and 'rejected' (messages or a text), where a "
                f"message has 'role' and 'content'; got {pair!r:.200} ({type(error).__name__} {error})"
            ) from error
        found.append((json.dumps(prompt), (chosen, rejected)))
    if not found:
        raise ValueError("expected at least one pair to train on, got none")
    return found


def _messages(given: Any, role: str) -> list[dict[str, str]]:
    if isinstance(given, str):
        return [{"role": role, "content": given}]
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in given]


def _split(pairs: Sequence[tuple[str, Pair]], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Return pairs to train on and pairs held out, which have other prompts."""
    if not 0.0 <= share < 1.0:
        raise ValueError(f"held_out must be at least 0 and below 1, got {share}")
    prompts = sorted({prompt for prompt, _ in pairs})
    np.random.default_rng(seed).shuffle(prompts)
    out = set(prompts[: min(round(share * len(prompts)), len(prompts) - 1)])
    return [pair for prompt, pair in pairs if prompt not in out], [pair for prompt, pair in pairs if prompt in out]


def _accuracy(model: Any, tokenizer: Any, pairs: Sequence[Pair], batch_size: int, longest: int | None) -> float | None:
    if not pairs:
        return None
    raw = raw_scores(model, tokenizer, [chat for pair in pairs for chat in pair], batch_size, longest)
    return float((raw[0::2] > raw[1::2]).mean())


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)
