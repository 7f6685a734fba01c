"""TRL's preference trainers, on rows that are tokens already and hold what the reference makes of them.

The trainers give the loss, the batches and the numbers to log; the steps, checkpoints and the run folder are those of
all agents (``dialog_gym.agents.lm_steps``, ``loop``). Five traps of TRL 1.16 are stepped around here:

1. ``copy.deepcopy`` of a model that a trainer has held runs the original's weights: its ``forward`` is a closure. So
   no model is copied, and ``release`` takes the closure off again.
2. Without a reference the trainer loads the model's source from the disk, in a second stage the wrong model. So what
   the reference makes of each row is computed beforehand, and the trainer has none.
3. The trainer leaves ``config.use_cache`` off, and generation becomes many times slower: it is set back.
4. Its defaults are bfloat16, gradient checkpointing, a small learning rate and a cut at 1024 tokens: all are ours.
   KTO reads rows in order, so they are shuffled beforehand (``preference_data.labelled``).
5. Its losses gather numbers of all processes, and wait for ever if only one of them asks (``alone``).

A trainer seeds Python, NumPy and torch as a whole; their states are set back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from datasets import Dataset
from torch import nn
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.utils import add_fused_lm_head

from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.chance import global_random_state_kept
from dialog_gym.rewards.reward_model import quiet


class _Tokens:
    """Leaves rows as they are."""

    def _prepare_dataset(self, dataset: Dataset, *settings: Any) -> Dataset:
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *settings: Any) -> Dataset:
        return dataset


class TokenDPO(_Tokens, DPOTrainer):
    """TRL's ``DPOTrainer`` on rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""


class TokenKTO(_Tokens, KTOTrainer):
    """TRL's ``KTOTrainer`` on rows of ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``."""


class Called(nn.Module):
    """A policy's network as TRL calls it, with the arguments of transformers.

    Attributes:
        policy: The network.
    """

    def __init__(self, policy: LMNetwork) -> None:
        """Hold ``policy``."""
        super().__init__()
        self.policy = policy

    def forward(self, **fed: Any) -> Any:
        """Return what the model makes of ``fed``."""
        return self.policy.model(**fed)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return self.policy.trainable()

    @property
    def plain(self) -> Any:
        """The model of transformers itself."""
        return self.policy.plain

    @property
    def _no_split_modules(self) -> Any:
        return self.plain._no_split_modules  # where accelerate cuts a model for several GPUs


def make_trainer(
    kind: Literal["dpo", "kto"],
    network: LMNetwork,
    tokenizer: Any,
    example: Mapping[str, Any],
    *,
    batch: int,
    settings: Mapping[str, Any],
    bf16: bool = False,
    seed: int = 0,
) -> Any:
    """Return TRL's trainer of a policy, whose loss, collator and reference log-probabilities are used.

    Args:
        kind: Which.
        network: The policy's; its adapter, if it has one, must be new.
        tokenizer: Of the policy.
        example: A row.
        batch: Rows that are in memory at once.
        settings: Further fields of ``DPOConfig`` or ``KTOConfig``.
        bf16: Whether to compute in bfloat16.
        seed: Of the trainer, whose own chance is not used.
    """
    trainer_class: Any = TokenDPO if kind == "dpo" else TokenKTO
    config_class = DPOConfig if kind == "dpo" else KTOConfig
    model, use_cache = network.model, network.plain.config.use_cache
    device = next(model.parameters()).device
    with tempfile.TemporaryDirectory() as folder, quiet(), global_random_state_kept():
        config = config_class(
            output_dir=folder,
            per_device_train_batch_size=batch,
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
            bf16=bf16,
            max_length=None,
            use_cpu=device.type == "cpu",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
            **settings,
        )
        rows = Dataset.from_list([dict(example)])
        trainer = trainer_class(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    if network.has_adapter and "ref" in model.peft_config:
        model.delete_adapter("ref")  # a copy of the adapter; without it the reference is the model itself
    network.plain.config.use_cache = use_cache
    return trainer


@contextmanager
def alone(trainer: Any) -> Iterator[None]:
    """Let the trainer of one process compute losses inside, while others do something else."""
    own = vars(trainer.accelerator)
    own |= {"gather": _as_it_is, "gather_for_metrics": _as_it_is}
    try:
        yield
    finally:
        del own["gather"], own["gather_for_metrics"]


def _as_it_is(value: Any, **settings: Any) -> Any:
    return value


def as_reference(model: Any) -> Any:
    """Return ``model``, ready to be what a trainer computes the reference's log-probabilities with."""
    add_fused_lm_head(model)
    return model.eval().requires_grad_(False)


def release(model: Any) -> None:
    """Take off a model what TRL has put on it."""
    vars(model).pop("forward", None)
