"""The network that learns a reward per turn: heads over encodings, and what is saved of a trained one.

Every head takes the encodings of a conversation's turns, shape ``(B, T, size)``, to one reward per turn, ``(B, T)``,
in standard units; ``Scale`` turns these into units of the score.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dialog_gym import checkpoint
from dialog_gym.rewards.spec import learned_folder

HeadName = Literal["mlp", "geli", "lstm"]
KIND = "decomposed reward"
VERSION = 1


class GeliHead(nn.Module):
    """GELI's head: size -> 128, dropout, ReLU, -> 1, tanh; a reward in [-1, 1].

    The published head has dropout on its output too, which sets rewards to zero by chance; here it is 0 by default.
    With an encoder of 1024 numbers it has 131,072 + 128 + 128 + 1 parameters.
    """

    def __init__(self, size: int, hidden: int = 128, dropout: float = 0.2, output_dropout: float = 0.0) -> None:
        """Make a head for encodings of ``size`` numbers."""
        super().__init__()
        self.first, self.last = nn.Linear(size, hidden), nn.Linear(hidden, 1)
        self.dropout, self.output_dropout = nn.Dropout(dropout), nn.Dropout(output_dropout)

    def forward(self, encodings: Tensor) -> Tensor:
        """Return the reward of each turn, shape ``(..., T)``."""
        hidden = torch.relu(self.dropout(self.first(encodings)))
        return torch.tanh(self.output_dropout(self.last(hidden)).squeeze(-1))


class MlpHead(nn.Module):
    """Two hidden layers (GELU) and limit * tanh(. / limit): nearly linear where rewards are small."""

    def __init__(self, size: int, hidden: int = 64, dropout: float = 0.0, limit: float = 5.0) -> None:
        """Make a head whose rewards lie in [-limit, limit]."""
        super().__init__()
        self.limit = limit
        self.layers = nn.Sequential(
            nn.Linear(size, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, encodings: Tensor) -> Tensor:
        """Return the reward of each turn, shape ``(..., T)``."""
        return self.limit * torch.tanh(self.layers(encodings).squeeze(-1) / self.limit)


class LstmHead(nn.Module):
    """RUDDER's network: an LSTM without forget and output gates predicts the score after every turn.

    A turn's reward is the difference of consecutive predictions, the first turn's the first prediction, so that
    rewards sum to the last prediction. They have no bound.
    """

    def __init__(self, size: int, hidden: int = 16) -> None:
        """Make a network with ``hidden`` memory cells."""
        super().__init__()
        self.read, self.recur = nn.Linear(size, 2 * hidden), nn.Linear(hidden, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, 1)
        self.hidden = hidden

    def forward(self, encodings: Tensor) -> Tensor:
        """Return the reward of each turn, shape ``(..., T)``; a turn's depends on those before it."""
        seen = self.read(encodings)
        cell = torch.zeros_like(seen[..., 0, : self.hidden])
        output, predicted = cell, []
        for turn in range(encodings.shape[-2]):
            gate, new = (seen[..., turn, :] + self.recur(output)).chunk(2, -1)
            cell = cell + torch.sigmoid(gate) * torch.tanh(new)
            output = torch.tanh(cell)
            predicted.append(self.out(output).squeeze(-1))
        values = torch.stack(predicted, -1)
        return torch.cat([values[..., :1], values[..., 1:] - values[..., :-1]], -1)


@dataclass(frozen=True)
class HeadSpec:
    """Which head, and how large.

    Attributes:
        name: ``"mlp"``, ``"geli"`` or ``"lstm"`` (RUDDER's).
        hidden: Width; 0: 64, 128 and 16.
        dropout: On the hidden layer; the LSTM has none.
        output_dropout: On the output of GELI's head.
        limit: Largest reward of the MLP, in standard units.
    """

    name: HeadName = "mlp"
    hidden: int = 0
    dropout: float = 0.0
    output_dropout: float = 0.0
    limit: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if self.name not in ("mlp", "geli", "lstm"):
            raise ValueError(f"head must be 'mlp', 'geli' or 'lstm', got {self.name!r}")
        for name in ("dropout", "output_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.hidden < 0 or not self.limit > 0:
            raise ValueError(f"hidden must be at least 0 and limit above 0, got {self.hidden} and {self.limit}")

    def make(self, size: int) -> nn.Module:
        """Return a new head for encodings of ``size`` numbers."""
        if self.name == "lstm":
            return LstmHead(size, self.hidden or 16)
        if self.name == "geli":
            return GeliHead(size, self.hidden or 128, self.dropout, self.output_dropout)
        return MlpHead(size, self.hidden or 64, self.dropout, self.limit)

    @property
    def bound(self) -> float:
        """Largest reward in standard units, infinite for the LSTM."""
        return {"geli": 1.0, "mlp": self.limit, "lstm": float("inf")}[self.name]


@dataclass(frozen=True)
class Scale:
    """How standard units, in which networks learn, go with scores and local signals.

    A score R is learned as (R - offset) / unit, and a turn's reward r is worth ``unit * r`` in units of the score:
    score = offset + sum of ``unit * r``. A local signal is learned as (signal - local_offset) / local_unit.
    """

    offset: float = 0.0
    unit: float = 1.0
    local_offset: float = 0.0
    local_unit: float = 1.0


@dataclass(frozen=True)
class Reading:
    """What is read of a turn, and by whom; see ``encoders.load_encoder`` and ``turns.beginnings``."""

    encoder: str = "bag"
    pool: Literal["last", "mean", "both"] = "last"
    max_tokens: int = 1024
    notation: str = ""
    utterances: int = 20
    answer: bool = False


@dataclass
class TurnModel:
    """A trained reward: its head, and all that is needed to use it.

    Attributes:
        head: The network.
        spec: Which head it is.
        size: Numbers in an encoding.
        reading: What it reads.
        scale: Its units.
        mean: Mean of the encodings, which is subtracted first, shape ``(size,)``.
        spread: What they are divided by then, shape ``(size,)``.
        about: Method, metrics and data, as JSON.
        encoder_state: Weights of the encoder where it was tuned, else None.
        fingerprint: Of the encoder (before it was tuned), by which another one is known; "": any will do.
    """

    head: nn.Module
    spec: HeadSpec
    size: int
    reading: Reading = field(default_factory=Reading)
    scale: Scale = field(default_factory=Scale)
    mean: Tensor = field(default_factory=lambda: torch.zeros(1))
    spread: Tensor = field(default_factory=lambda: torch.ones(1))
    about: dict[str, Any] = field(default_factory=dict)
    encoder_state: dict[str, Tensor] | None = None
    fingerprint: str = ""

    def rewards(self, encodings: Tensor) -> Tensor:
        """Return rewards in standard units, shape ``(B, T)``, of encodings ``(B, T, size)``; gradients flow."""
        found: Tensor = self.head((encodings - self.mean) / self.spread)
        return found

    @torch.inference_mode()
    def score_turns(self, encodings: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the reward of every turn of one conversation in units of the score, shape ``(T,)``."""
        self.head.eval()
        found = self.rewards(torch.from_numpy(np.array(encodings, np.float32))[None])[0] * self.scale.unit
        return found.numpy()

    def save(self, folder: str | Path) -> None:
        """Write weights as safetensors and the rest as JSON; see ``dialog_gym.checkpoint``."""
        arrays = {f"head/{name}": tensor.detach().cpu().numpy() for name, tensor in self.head.state_dict().items()}
        arrays |= {"mean": self.mean.cpu().numpy(), "spread": self.spread.cpu().numpy()}
        for name, tensor in (self.encoder_state or {}).items():
            arrays[f"encoder/{name}"] = tensor.detach().cpu().numpy()
        data = {
            "version": VERSION,
            "head": asdict(self.spec),
            "size": self.size,
            "reading": asdict(self.reading),
            "scale": asdict(self.scale),
            "tuned": self.encoder_state is not None,
            "about": self.about,
            "fingerprint": self.fingerprint,
        }
        checkpoint.write(folder, KIND, arrays, data)

    @classmethod
    def load(cls, folder: str | Path) -> TurnModel:
        """Return what ``save`` wrote; nothing in it is executed.

        Raises:
            CheckpointError: There is no such model, it is damaged, or of another version.
        """
        folder = learned_folder(folder)
        if not (folder / checkpoint.INDEX).exists():
            raise checkpoint.CheckpointError(
                f"{folder} holds no learned reward; expected the folder of a finished run of `dialog-gym fit reward` "
                "(the same command started again goes on with one that was stopped)"
            )
        arrays, data = checkpoint.read(folder, KIND)
        if data["version"] != VERSION:
            raise checkpoint.CheckpointError(
                f"{folder} holds a decomposed reward of version {data['version']}, this library reads {VERSION}"
            )
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        spec = HeadSpec(**data["head"])
        head = spec.make(data["size"])
        head.load_state_dict(_below(tensors, "head/"))
        return cls(
            head.eval(),
            spec,
            data["size"],
            Reading(**data["reading"]),
            Scale(**data["scale"]),
            tensors["mean"],
            tensors["spread"],
            data["about"],
            _below(tensors, "encoder/") if data["tuned"] else None,
            data.get("fingerprint", ""),
        )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
