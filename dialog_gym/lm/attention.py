"""What a layer sees of a chat: masks of our own, models that take them, and attention that is quick with a cache."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Masks = Tensor | dict[str, Tensor]
_OURS = "dialog_gym"
_IMPLEMENTATIONS = ("sdpa", "eager", _OURS)
_UNUSUAL = ("position_bias", "softcap", "s_aux", "cache")


class Attention:
    """What the layers of a model see of a chat.

    Attributes:
        window: How many tokens a layer with sliding attention sees, None if there is none.
        kinds: The kinds of layers, if the model is told them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the configuration of ``model``.

        Raises:
            ValueError: It cannot be read in parts, has layers that cannot be rewound, or takes no mask.
        """
        _check_signature(model)
        if model.config._attn_implementation not in _IMPLEMENTATIONS:
            raise ValueError(
                f"attention must be one of {_IMPLEMENTATIONS[:2]}, which take a mask of our own, got "
                f"{model.config._attn_implementation!r}: load the model with attn_implementation='sdpa'"
            )
        if model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(_OURS)
        self._dtype: torch.dtype = cast(Tensor, model.get_input_embeddings().weight).dtype
        config: Any = model.config.get_text_config(decoder=True)
        self.window: int | None = getattr(config, "sliding_window", None)
        self.kinds = tuple(sorted(set(getattr(config, "layer_types", None) or ())))
        if unknown := set(self.kinds) - {"full_attention", "sliding_attention"}:
            raise ValueError(f"layers of the kinds {sorted(unknown)} cannot be rewound; full or sliding attention can")
        if self.kinds == ("full_attention",):
            self.window = None

    def masks(self, key_positions: Tensor, positions: Tensor) -> Masks:
        """Return additive attention masks, (n, 1, queries, columns), from the positions of columns and queries.

        A query sees the columns whose position is not after its own, and in layers with a sliding window those
        within it. Models that mix kinds of layers take one mask per kind.
        """
        distance = positions[:, :, None] - key_positions[:, None, :]
        full = self._additive(distance >= 0)
        if self.window is None:
            return full
        near = self._additive((distance >= 0) & (distance < self.window))
        if not self.kinds:
            return near
        return {kind: near if kind == "sliding_attention" else full for kind in self.kinds}

    def _additive(self, seen: Tensor) -> Tensor:
        hidden = torch.finfo(self._dtype).min
        return torch.zeros((), dtype=self._dtype, device=seen.device).where(seen, hidden)[:, None]


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' ``sdpa`` does, quicker on a CPU.

    Keys and values that several heads share are not copied for each; and for one query per row, where torch's
    kernel is slow on long histories, there are two matrix products.

    Args:
        module: The layer.
        query: (n, heads, queries, head size).
        key: (n, key heads, columns, head size), ``value`` likewise.
        value: See ``key``.
        attention_mask: Is added to the scores, (n, 1, queries, columns).
        scaling: Of the scores; by default one over the root of the head size.
        dropout: Probability in training.
        rest: What only some models pass.

    Returns:
        (n, queries, heads, head size), and None.
    """
    usual = dropout == 0.0 and all(rest.get(name) is None for name in _UNUSUAL)
    if attention_mask is None or not query.is_cpu or not usual or attention_mask.dtype == torch.bool:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **rest
        )
    n, heads, queries, size = query.shape
    sharing = heads // key.shape[1]
    if queries > 1:
        summed = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=sharing > 1
        )
        return summed.transpose(1, 2).contiguous(), None
    asked = (query * (size**-0.5 if scaling is None else scaling)).reshape(n, key.shape[1], sharing, size)
    scores = torch.matmul(asked, key.transpose(2, 3)) + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return torch.matmul(weights, value).reshape(n, 1, heads, value.shape[-1]), None


AttentionInterface.register(_OURS, attend)
AttentionMaskInterface.register(_OURS, sdpa_mask)


def _check_signature(model: PreTrainedModel) -> None:
    wanted = {"position_ids", "past_key_values", "logits_to_keep", "inputs_embeds"}
    missing = sorted(wanted - set(inspect.signature(model.forward).parameters))
    if missing or model.get_output_embeddings() is None or getattr(model, "_is_stateful", False):
        raise ValueError(
            f"{type(model).__name__} cannot be steered and rewound: it needs attention with a key-value "
            f"cache and an output layer, and to take {sorted(wanted)}"
            + (f"; it does not take {missing}" if missing else "")
        )
