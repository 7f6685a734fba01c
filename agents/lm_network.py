"""The network of a language-model policy: a causal model, perhaps an adapter, perhaps heads on its states.

``LMNetwork`` is one ``nn.Module``, so that it can be wrapped for several GPUs as a whole; all that an algorithm needs
of a batch comes from its ``forward``: logits and heads at the places from which something is predicted, and nowhere
else, which is what a large vocabulary costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dialog_gym import lm as models
from dialog_gym.lm.pretrained import load_pretrained
from dialog_gym.lm.speaker_cache import built_speaker
from dialog_gym.lm.spec import parse

LORA_TARGETS = "all-linear"
"""peft's name for every linear layer but the output."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter to be trained (Hu et al. 2021, arXiv:2106.09685); all else of the model is frozen.

    Attributes:
        rank: Of the matrices.
        alpha: The update is scaled by alpha / rank.
        dropout: On what the adapter reads.
        targets: Names of the layers that get one; ``("all-linear",)``: all but the output.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = (LORA_TARGETS,)


class Outputs(NamedTuple):
    """What a network makes of a batch; N is the number of actions.

    Attributes:
        logits: Of the token to come, in float32 (float64 where the model is), (N, vocabulary).
        hidden: Last hidden state (after the final norm) there, (N, d).
        heads: What each head makes of it, in float32, (N, size).
    """

    logits: Tensor
    hidden: Tensor
    heads: Mapping[str, Tensor]


class LMNetwork(nn.Module):
    """A causal model of transformers, with or without an adapter, and heads on its states.

    Attributes:
        model: The model; with an adapter a ``peft.PeftModel`` around it.
        heads: A two-layer network by name (see ``head``); they train in float32, whatever the model is.
    """

    def __init__(self, model: Any, heads: Mapping[str, int] | None = None) -> None:
        """Hold ``model``; new ``heads`` of these sizes (0: the vocabulary) are drawn from torch's generator."""
        super().__init__()
        self.model = model
        vocabulary, width = self.plain.get_output_embeddings().weight.shape
        self.heads = nn.ModuleDict({name: head(width, size or vocabulary) for name, size in (heads or {}).items()})
        self.heads.to(embeddings_of(self.plain).device)
        self._whole = not _head_alone(self.plain)
        self._no_split_modules = self.plain._no_split_modules  # where accelerate cuts a model for several GPUs

    @property
    def plain(self) -> Any:
        """The model of transformers itself; layers that an adapter changes are changed in it."""
        return self.model.get_base_model() if self.has_adapter else self.model

    @property
    def has_adapter(self) -> bool:
        """Whether only an adapter (and heads) are trained."""
        return hasattr(self.model, "peft_config")

    def forward(self, tokens: Tensor, positions: Tensor, where: Tensor) -> Outputs:
        """Return what is predicted from the places ``where`` (N,) of the flattened ``tokens`` (lines, width).

        Args:
            tokens: Token ids; what follows a row on its line is never seen by it.
            positions: Position of each token in its row; where they begin anew, so does attention.
            where: Places.
        """
        fed = {"input_ids": tokens, "position_ids": positions, "use_cache": False}
        if self._whole:
            found = self.plain(**fed, output_hidden_states=True)
            hidden = found.hidden_states[-1].flatten(0, 1)[where]
            logits = found.logits.flatten(0, 1)[where]
        else:
            hidden = self.plain.get_decoder()(**fed)[0].flatten(0, 1)[where]
            logits = self.plain.get_output_embeddings()(hidden)
        exact = hidden if hidden.dtype == torch.float64 else hidden.float()
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return Outputs(logits, hidden, {name: net(exact) for name, net in self.heads.items()})

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Inside, the model is what it was before training: the reference of a policy with an adapter.

        Raises:
            ValueError: There is no adapter; a copy of the network made before training serves instead.
        """
        if not self.has_adapter:
            raise ValueError(
                "this network is tuned as a whole, so only a copy made before training can be a reference"
            )
        with self.model.disable_adapter():
            yield


def head(width: int, size: int) -> nn.Sequential:
    """Return a head: linear to twice the width, ReLU, linear to ``size`` outputs (trlx's form, for V and Q)."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, size))


def embeddings_of(model: Any) -> Tensor:
    """Return the input embeddings of a model of transformers, (vocabulary, embedding size)."""
    weights: Tensor = model.get_input_embeddings().weight
    return weights


def load_model(spec: str, dtype: str, device: str | None) -> tuple[Any, Any]:
    """Return the model and tokenizer that ``spec`` names, not frozen.

    Args:
        spec: ``tiny`` and its like, ``hf:NAME_OR_PATH?adapter=FOLDER``, a folder of a model, or a run or agent folder
            of a language-model policy.
        dtype: Of the weights.
        device: Where they are to be; None: a GPU if there is one.

    Raises:
        ValueError: It names no causal model that can be trained here.
    """
    found = parse(spec)
    if found.backend not in ("tiny", "hf", "speaker"):
        raise ValueError(
            f"the language model {spec!r} is not in this process and cannot be trained; give 'tiny', "
            "'hf:NAME_OR_PATH' or the path of a folder"
        )
    options: dict[str, Any] = {"dtype": dtype, "device": device, "adapter": None, **found.options}
    if strange := sorted(set(options) - {"dtype", "device", "adapter"}):
        raise ValueError(f"the model of a policy takes the options dtype, device and adapter, got {strange[0]!r}")
    path: str | Path = found.name
    if found.backend == "speaker":
        path = built_speaker(found.name)
    elif found.backend == "tiny":
        path = models.WEIGHTS / found.name
    model, tokenizer = load_pretrained(path, options["dtype"], options["device"], options["adapter"])
    rows: int = embeddings_of(model).shape[0]
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer of {spec!r} has {len(tokenizer)} tokens and the model embeddings for {rows}; they are not "
            "of one model"
        )
    return model, tokenizer


def add_tokens(model: Any, tokenizer: Any, tokens: Sequence[str], generator: torch.Generator) -> list[int]:
    """Give tokenizer and model new special tokens, and return their ids.

    The embeddings of tokens that stand in an order begin in that order, on the line between two points drawn at the
    usual distance from the mean: ``mean + std * ((1 - x) u + x v)`` with x from 0 to 1 and standard normal u, v.
    An output layer that is tied to the input has the same rows (see ``make_room`` for others).

    Raises:
        ValueError: A token is there already.
    """
    known = tokenizer.get_vocab()
    if there := [token for token in tokens if token in known]:
        raise ValueError(f"the tokenizer has the token {there[0]!r} already; begin with a model without it")
    tokenizer.add_special_tokens({"extra_special_tokens": list(tokens)}, replace_extra_special_tokens=False)
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(tokens))
    make_room(model, ids)
    with torch.no_grad():
        weights = embeddings_of(model)
        old = weights[: min(ids)].float()
        u, v = torch.randn(2, weights.shape[1], generator=generator).to(old)
        x = torch.linspace(0, 1, len(ids)).to(old)[:, None]
        weights[ids] = (old.mean(0) + old.std(0) * ((1 - x) * u + x * v)).to(weights.dtype)
    return ids


@torch.no_grad()
def make_room(model: Any, ids: Sequence[int]) -> None:
    """Let ``model`` have embeddings for new token ``ids``, which are its highest.

    An output layer that is not tied to the input gets its mean there: a new token is as likely as the average.
    """
    if max(ids) >= embeddings_of(model).shape[0]:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    outputs = model.get_output_embeddings().weight
    if outputs is not embeddings_of(model):
        outputs[list(ids)] = outputs[: min(ids)].float().mean(0).to(outputs.dtype)


def prepare_training(model: Any, adapter: Adapter | None, new_tokens: Sequence[int] = ()) -> Any:
    """Return ``model`` with what is to be trained, and that alone, taking gradients: all of it, or an adapter.

    Args:
        model: As ``load_model`` gave it.
        adapter: None trains every weight.
        new_tokens: Ids whose embeddings are trained beside an adapter.

    Raises:
        ValueError: All weights are to be trained and are no float32.
        ModuleNotFoundError: An adapter is asked for and peft is not installed.
    """
    if adapter is None:
        dtype = embeddings_of(model).dtype
        if dtype != torch.float32:
            raise ValueError(
                f"weights that are all trained must be float32, got {dtype}: drop dtype and use precision='bf16', or "
                "train an adapter (lora above 0)"
            )
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    targets = LORA_TARGETS if adapter.targets == (LORA_TARGETS,) else list(adapter.targets)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # a float is as good
        lora_dropout=adapter.dropout,
        target_modules=targets,
        trainable_token_indices=list(new_tokens) or None,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


@torch.no_grad()
def _head_alone(model: Any) -> bool:
    """Return whether the output layer makes the logits of the last hidden states (some models scale or cap them)."""
    tokens = torch.tensor([[1, 2, 3]], device=embeddings_of(model).device)
    was = model.training
    model.eval()
    whole = model(input_ids=tokens, use_cache=False).logits
    parts = model.get_output_embeddings()(model.get_decoder()(input_ids=tokens, use_cache=False)[0])
    model.train(was)
    return whole.shape == parts.shape and bool(torch.allclose(whole.float(), parts.float(), rtol=1e-3, atol=1e-4))
