"""Prefix maps: from a small vector action to the input embeddings that steer a frozen language model.

The idea, and the kinds ``pca`` and ``clone``, are of Dialogue Action Tokens (Li et al. 2024, arXiv 2406.11978);
``steer`` is the decoder side of a conditional variational autoencoder. A map belongs to one model, whose
fingerprint it carries.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, cast, get_args, runtime_checkable

import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dialog_gym import checkpoint
from dialog_gym.lm.base import Position

Fingerprint = Mapping[str, int | str]
FORMAT = "dialog_gym prefix map 1"


@runtime_checkable
class Fingerprinted(Protocol):
    """A model that can tell which input embeddings it has."""

    def fingerprint(self) -> Fingerprint:
        """Return sizes and a hash of the input embeddings."""
        ...


def embeddings_fingerprint(matrix: Tensor, hidden_size: int) -> dict[str, int | str]:
    """Return sizes and a hash of input embeddings (vocabulary, embedding size).

    Values are hashed in bfloat16, so that the dtype a model is loaded in does not matter.
    """
    digest = blake2b(digest_size=16)
    for chunk in matrix.detach().split(8192):
        digest.update(chunk.to(torch.bfloat16).contiguous().view(torch.int16).cpu().numpy().tobytes())
    return {"hidden_size": hidden_size, "vocabulary": matrix.shape[0], "embeddings": digest.hexdigest()}


class PrefixMap(nn.Module, ABC):
    """From actions (n, A) in [-1, 1] and states (n, d) to prefixes (n, P, embedding size).

    Attributes:
        kind: Name of the kind, ``pca``, ``clone`` or ``steer``.
        needs_state: Whether a prefix depends on the state, which must then be that of the model it steers.
        action_size: A.
        prefix_tokens: P.
        position: Where the prefix goes.
        fingerprint: Of the model it belongs to, None until ``bind``.
    """

    kind: ClassVar[str]
    needs_state: ClassVar[bool] = False
    kinds: ClassVar[dict[str, type[PrefixMap]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the kind."""
        super().__init_subclass__(**options)
        PrefixMap.kinds[cls.kind] = cls

    def __init__(self, action_size: int, prefix_tokens: int, position: Position) -> None:
        """Settle the sizes."""
        super().__init__()
        if action_size < 1 or prefix_tokens < 1:
            raise ValueError(
                f"action size and prefix tokens must be at least 1, got {action_size} and {prefix_tokens}"
            )
        if position not in get_args(Position):
            raise ValueError(f"position must be one of {get_args(Position)}, got {position!r}")
        self.action_size = action_size
        self.prefix_tokens = prefix_tokens
        self.position: Position = position
        self.fingerprint: Fingerprint | None = None

    @abstractmethod
    def forward(self, actions: NDArray[Any] | Tensor, states: NDArray[Any] | Tensor) -> Tensor:
        """Return the prefixes; differentiable in tensors and in parameters that are not frozen."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the arguments that make an empty map of this shape, JSON."""

    def bind(self, lm: Fingerprinted) -> Self:
        """Mark the map as belonging to ``lm``, freeze it and return it."""
        self.fingerprint = dict(lm.fingerprint())
        return self.eval().requires_grad_(False)

    def save(self, folder: str | Path) -> None:
        """Write ``prefix.safetensors`` and ``prefix.json``.

        Raises:
            ValueError: The map belongs to no model yet.
        """
        if self.fingerprint is None:
            raise ValueError("this prefix map belongs to no model: call bind(lm) with the model as it will be loaded")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
        about = {
            "format": FORMAT,
            "kind": self.kind,
            "settings": self.settings(),
            "fingerprint": dict(self.fingerprint),
        }
        with checkpoint.replacing(folder / "prefix.safetensors") as partial:
            partial.write_bytes(safetensors.torch.save(tensors))
        checkpoint.write_text(folder / "prefix.json", f"{json.dumps(about, indent=2)}\n")

    @classmethod
    def load(cls, folder: str | Path, lm: Fingerprinted | None = None) -> PrefixMap:
        """Read what ``save`` wrote, of any kind.

        Args:
            folder: Where it lies.
            lm: The model it is for; None leaves out the check that it belongs to it.

        Raises:
            ValueError: There is no map, it is damaged, or it belongs to another model.
        """
        about = _read_about(Path(folder))
        try:
            made = PrefixMap.kinds[about["kind"]](**about["settings"])
            made.load_state_dict(safetensors.torch.load_file(Path(folder) / "prefix.safetensors"))
        except (KeyError, TypeError, OSError, RuntimeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"the prefix map in {str(folder)!r} is damaged: {type(error).__name__} {error}"
            ) from error
        made.fingerprint = about.get("fingerprint")
        if lm is not None:
            made.check(lm)
        return made.eval().requires_grad_(False)

    def check(self, lm: Fingerprinted) -> None:
        """Refuse a model that the map was not made for."""
        theirs = dict(lm.fingerprint())
        if self.fingerprint is None or dict(self.fingerprint) != theirs:
            raise ValueError(
                f"this {self.kind} prefix map belongs to another language model: it was made for "
                f"{self.fingerprint}, and the model at hand is {theirs}; fit a map for it"
            )

    def _inputs(self, actions: NDArray[Any] | Tensor, states: NDArray[Any] | Tensor) -> tuple[Tensor, Tensor]:
        like = next(iter(self.state_dict(keep_vars=True).values()))
        a, s = (torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in (actions, states))
        if a.ndim != 2 or a.shape[1] != self.action_size or s.ndim != 2 or len(s) != len(a):
            raise ValueError(
                f"expected actions (n, {self.action_size}) and n states, got {tuple(a.shape)} and {tuple(s.shape)}"
            )
        return a, s


class PcaMap(PrefixMap):
    """Principal components of the input embeddings: prefix = scale * a W.

    W holds the first A principal components as orthonormal rows, so that a prefix stays where embeddings vary
    most. As in the paper one vector is repeated P times; ``distinct`` gives each token A components of its own
    (the first A to the first token, the next A to the second). One deviation from the paper, which has no scale: here
    it is such that a uniformly random action is as long as embeddings are far from their mean on average, times
    ``spread``. Adding the mean embedding, as ``SteerMap`` does, was tried and made the tiny model's language worse.
    """

    kind = "pca"
    components: Tensor
    scale: Tensor

    def __init__(
        self,
        embedding_size: int,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        distinct: bool = False,
    ) -> None:
        """Make an empty map; use ``of``."""
        super().__init__(action_size, prefix_tokens, position)
        rows = action_size * prefix_tokens if distinct else action_size
        if rows > embedding_size:
            raise ValueError(
                f"an action of {action_size} needs {rows} components, but embeddings have only {embedding_size}: "
                "take a smaller action" + (" or distinct=False" if distinct else "")
            )
        self.distinct = distinct
        self.register_buffer("components", torch.zeros(rows, embedding_size))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def of(
        cls,
        embeddings: Tensor,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        distinct: bool = False,
        spread: float = 1.0,
    ) -> PcaMap:
        """Analyse ``embeddings`` (vocabulary, embedding size), the same way every time."""
        table = embeddings.detach().double().cpu()
        made = cls(table.shape[1], action_size, prefix_tokens, position, distinct)
        centred = table - table.mean(0)
        _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending; as the SVD, and small for a large vocabulary
        rows = vectors.flip(1).T[: len(made.components)]
        heaviest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        made.components.copy_(rows * heaviest.sign())
        made.scale.copy_(spread * (3 * centred.square().sum(1).mean() / action_size).sqrt())
        return made.eval().requires_grad_(False)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make an empty map of this shape, JSON."""
        return {
            "embedding_size": self.components.shape[1],
            "action_size": self.action_size,
            "prefix_tokens": self.prefix_tokens,
            "position": self.position,
            "distinct": self.distinct,
        }

    def forward(self, actions: NDArray[Any] | Tensor, states: NDArray[Any] | Tensor) -> Tensor:
        """Return the prefixes; states do not matter."""
        a, _ = self._inputs(actions, states)
        tokens = self.prefix_tokens if self.distinct else 1
        rows = self.components.view(tokens, self.action_size, -1)
        moved = torch.einsum("na,tae->nte", a * self.scale, rows)
        return moved.expand(-1, self.prefix_tokens, -1)


class SteerMap(PrefixMap):
    """Decoder side of a conditional variational autoencoder: prefix = f(z / 2) + mean embedding, with z = 2 a.

    f is linear, f(x) = x W, or with ``hidden`` units x W + MLP(x). Trained together with the model, so that a
    code z says what the reply says; the prior of z is a standard normal distribution, of which the box of actions
    covers two standard deviations.
    """

    kind = "steer"
    centre: Tensor

    def __init__(
        self,
        embedding_size: int,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        hidden: int = 0,
    ) -> None:
        """Make a map with W = 0; use ``new``."""
        super().__init__(action_size, prefix_tokens, position)
        width = prefix_tokens * embedding_size
        self.weight = nn.Parameter(torch.zeros(action_size, width))
        self.hidden = hidden
        self.mlp = (
            nn.Sequential(nn.Linear(action_size, hidden), nn.SiLU(), nn.Linear(hidden, width)) if hidden else None
        )
        self.register_buffer("centre", torch.zeros(embedding_size))

    @classmethod
    def new(
        cls,
        embeddings: Tensor,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        *,
        hidden: int = 0,
        seed: int = 0,
    ) -> SteerMap:
        """Draw W (and the MLP, from torch's generator) for training.

        A random code is as far from the mean of ``embeddings`` as they are on average.
        """
        table = embeddings.detach().float().cpu()
        made = cls(table.shape[1], action_size, prefix_tokens, position, hidden)
        std = 2.0 * (table.var(0).mean() / action_size).sqrt()
        with torch.no_grad():
            made.weight.copy_(std * torch.randn(made.weight.shape, generator=torch.Generator().manual_seed(seed)))
        made.centre.copy_(table.mean(0))
        return made

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make an empty map of this shape, JSON."""
        return {
            "embedding_size": len(self.centre),
            "action_size": self.action_size,
            "prefix_tokens": self.prefix_tokens,
            "position": self.position,
            "hidden": self.hidden,
        }

    def embeddings(self, z: Tensor) -> Tensor:
        """Return the prefixes of codes z (n, A), (n, P, embedding size)."""
        half = z / 2
        flat = half @ self.weight if self.mlp is None else half @ self.weight + self.mlp(half)
        return flat.view(len(z), self.prefix_tokens, -1) + self.centre

    def forward(self, actions: NDArray[Any] | Tensor, states: NDArray[Any] | Tensor) -> Tensor:
        """Return the prefixes; states do not matter."""
        a, _ = self._inputs(actions, states)
        return self.embeddings(2 * a)


class CloneMap(PrefixMap):
    """Self-cloned: prefix = W(planner(state) + reach * a), reshaped to P different vectors.

    Planner and W learn to reproduce what the frozen model says anyway, so that a = 0 is harmless; the action is
    a residual, added before W. The planner is the paper's (d to d to A to A, SiLU after each), on states divided
    by their standard deviation.

    Attributes:
        reach: How far an action of 1 moves the code.
    """

    kind = "clone"
    needs_state = True
    shift: Tensor
    spread: Tensor

    def __init__(
        self,
        hidden_size: int,
        embedding_size: int,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        reach: float = 1.0,
    ) -> None:
        """Make an untrained map; use ``new``."""
        super().__init__(action_size, prefix_tokens, position)
        self.reach = reach
        self.hidden_size, self.embedding_size = hidden_size, embedding_size
        self.planner = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.SiLU(),
            nn.Linear(hidden_size, action_size),
            nn.SiLU(),
            nn.Linear(action_size, action_size),
            nn.SiLU(),
        )
        self.up = nn.Linear(action_size, prefix_tokens * embedding_size)
        self.register_buffer("shift", torch.zeros(hidden_size))
        self.register_buffer("spread", torch.ones(hidden_size))

    @classmethod
    def new(
        cls,
        embeddings: Tensor,
        states: Tensor,
        action_size: int = 16,
        prefix_tokens: int = 2,
        position: Position = "end",
        *,
        reach: float = 1.0,
        seed: int = 0,
    ) -> CloneMap:
        """Draw weights for training on prompts with these ``states``; the prefix starts around the mean embedding."""
        table = embeddings.detach().float().cpu()
        made = cls(states.shape[1], table.shape[1], action_size, prefix_tokens, position, reach)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in made.modules():
                if isinstance(layer, nn.Linear):
                    bound = 1 / math.sqrt(layer.in_features)
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.zero_()
            made.up.weight.normal_(0.0, float((table.var(0).mean() / action_size).sqrt()), generator=generator)
            made.up.bias.copy_(table.mean(0).repeat(prefix_tokens))
        made.shift.copy_(states.mean(0))
        made.spread.copy_(states.std(0, correction=0).clamp(min=1e-3))
        return made

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make an empty map of this shape, JSON."""
        return {
            "hidden_size": self.hidden_size,
            "embedding_size": self.embedding_size,
            "action_size": self.action_size,
            "prefix_tokens": self.prefix_tokens,
            "position": self.position,
            "reach": self.reach,
        }

    def embeddings(self, z: Tensor, states: Tensor) -> Tensor:
        """Return the prefixes of codes z (n, A) that are added to the planner's, (n, P, embedding size)."""
        code = self.planner((states - self.shift) / self.spread) + z
        return cast(Tensor, self.up(code)).view(len(z), self.prefix_tokens, -1)

    def forward(self, actions: NDArray[Any] | Tensor, states: NDArray[Any] | Tensor) -> Tensor:
        """Return the prefixes."""
        a, s = self._inputs(actions, states)
        return self.embeddings(self.reach * a, s)


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "prefix.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(folder)!r} holds no prefix map: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("kind") not in PrefixMap.kinds:
        raise ValueError(
            f"expected {str(folder / 'prefix.json')!r} to describe a {FORMAT!r} of a kind in "
            f"{sorted(PrefixMap.kinds)}, got {str(about)!r:.120}"
        )
    return about
