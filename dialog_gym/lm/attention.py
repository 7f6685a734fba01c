"""Which tokens a layer sees: attention masks of our own, and models that take them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Masks = Tensor | dict[str, Tensor]
_IMPLEMENTATIONS = ("sdpa", "eager")


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
                f"attention must be one of {_IMPLEMENTATIONS}, which take a mask of our own, got "
                f"{model.config._attn_implementation!r}: load the model with attn_implementation='sdpa'"
            )
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


def _check_signature(model: PreTrainedModel) -> None:
    wanted = {"position_ids", "past_key_values", "logits_to_keep", "inputs_embeds"}
    missing = sorted(wanted - set(inspect.signature(model.forward).parameters))
    if missing or model.get_output_embeddings() is None or getattr(model, "_is_stateful", False):
        raise ValueError(
            f"{type(model).__name__} cannot be steered and rewound: it needs attention with a key-value "
            f"cache and an output layer, and to take {sorted(wanted)}"
            + (f"; it does not take {missing}" if missing else "")
        )
