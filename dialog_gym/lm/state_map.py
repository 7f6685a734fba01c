"""State maps: from a model's state vector to the few numbers that a planner needs.

The counterpart of a prefix map. A frozen model's state holds what it understood of a dialogue, spread over hundreds
of numbers; a linear map fitted to known facts of self-played dialogues (``Task.facts`` of an embedded world) reads
them off. Where no facts are known, observe the state itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from dialog_gym.checkpoint import write_json
from dialog_gym.lm.base import LanguageModel
from dialog_gym.lm.prefix import Fingerprinted

FORMAT = 1
Floats = NDArray[np.float32]


class StateMap:
    """A linear map of states, (n, d) to (n, k).

    Attributes:
        weight: (d, k).
        bias: (k,).
        fingerprint: Of the model whose states it reads.
    """

    def __init__(self, weight: Floats, bias: Floats, fingerprint: Mapping[str, int | str]) -> None:
        """Hold the map."""
        if weight.ndim != 2 or bias.shape != weight.shape[1:]:
            raise ValueError(f"expected a matrix and one bias per column, got {weight.shape} and {bias.shape}")
        self.weight, self.bias, self.fingerprint = weight, bias, dict(fingerprint)

    @classmethod
    def fit(
        cls, states: NDArray[Any], facts: NDArray[Any], fingerprint: Mapping[str, int | str], ridge: float = 1.0
    ) -> StateMap:
        """Return the ridge regression of ``facts``, each standardised, on ``states``.

        Args:
            states: (n, d), with n above d.
            facts: (n, k); the columns must vary.
            fingerprint: ``lm.fingerprint()`` of the model that gave the states.
            ridge: Weight of the squared coefficients.

        Raises:
            ValueError: There are too few states, or a fact never varies.
        """
        if len(states) != len(facts) or len(states) <= states.shape[1]:
            raise ValueError(
                f"expected more states than their length {states.shape[1]}, with facts for each, got {len(states)} "
                f"states and facts for {len(facts)}"
            )
        spread = facts.std(0)
        if (spread == 0).any():
            raise ValueError(f"fact {int(np.argmin(spread))} is always the same; leave it out")
        x, y = states.astype(np.float64), (facts - facts.mean(0)) / spread
        centre = x.mean(0)
        x -= centre
        weight = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
        return cls(weight.astype(np.float32), (-centre @ weight).astype(np.float32), fingerprint)

    def __call__(self, states: NDArray[Any]) -> Floats:
        """Return what ``states`` (n, d) tell, (n, k)."""
        told: Floats = states @ self.weight + self.bias
        return told

    def explained(self, states: NDArray[Any], facts: NDArray[Any]) -> NDArray[np.float64]:
        """Return the share of the variance of each fact (n, k) that the map tells from ``states``, shape (k,)."""
        y = (facts - facts.mean(0)) / facts.std(0)
        told = self(states)
        share: NDArray[np.float64] = 1 - ((told - told.mean(0) - y) ** 2).mean(0)
        return share

    def save(self, folder: str | Path) -> None:
        """Write ``state.safetensors`` and ``state.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": np.ascontiguousarray(self.weight), "bias": self.bias}
        (folder / "state.safetensors").write_bytes(safetensors.numpy.save(tensors))
        write_json(folder / "state.json", {"format": FORMAT, "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, folder: str | Path, lm: Fingerprinted) -> StateMap:
        """Read what ``save`` wrote, for ``lm``.

        Raises:
            ValueError: There is no map, it is damaged, or it belongs to another model.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            tensors = safetensors.numpy.load_file(folder / "state.safetensors")
            made = cls(tensors["weight"], tensors["bias"], about["fingerprint"])
        except (KeyError, TypeError, OSError, ValueError, safetensors.SafetensorError) as error:
            raise ValueError(f"cannot read a state map in {str(folder)!r}: {type(error).__name__} {error}") from error
        if made.fingerprint != dict(lm.fingerprint()):
            raise ValueError(
                f"the state map in {str(folder)!r} belongs to another language model: it was made for "
                f"{made.fingerprint}, and the model at hand is {dict(lm.fingerprint())}; observe 'last+mean' instead"
            )
        return made


def load_state_map(name: str, lm: LanguageModel) -> StateMap:
    """Return the state map ``name`` for ``lm``: a folder, or one that lies in the folder of the model.

    Raises:
        ValueError: There is no such map, or it belongs to another model.
    """
    home: Path | None = getattr(lm, "folder", None)
    for folder in (Path(name), None if home is None else home / name):
        if folder is not None and (folder / "state.json").is_file() and isinstance(lm, Fingerprinted):
            return StateMap.load(folder, lm)
    raise ValueError(
        f"state must be 'last', 'last+mean', a folder with a saved state map, or the name of one that comes with "
        f"language model {lm.name!r} ({', '.join(own_state_maps(lm)) or 'none'}), got {name!r}"
    )


def own_state_maps(lm: LanguageModel) -> list[str]:
    """Return the names of the state maps that lie in the model's own folder."""
    home: Path | None = getattr(lm, "folder", None)
    return sorted(path.parent.name for path in home.glob("*/state.json")) if home else []
