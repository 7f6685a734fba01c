"""What determines a society: its settings, and where it lies on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dialog_gym.envs.society_grid import SETTINGS, side
from dialog_gym.envs.society_memory import WORDS
from dialog_gym.envs.society_norms import OBSERVER_NOISE, PEER_NOISE
from dialog_gym.lm.spec import parse
from dialog_gym.splits import SPLITS

FORMAT = "dialog_gym society 1"
SCRIPTED = "scripted"


@dataclass(frozen=True)
class Settings:
    """All that determines a society, but for how many rounds it is played. Defaults are the paper's code's.

    Attributes:
        agents: How many members there are; they fill a square grid.
        setting: Who is good and who is bad: ``all_good``, ``all_bad``, ``half_half``, ``mixed_half_half``.
        seed: Of all chance.
        radius: Euclidean distance within which members are neighbours; None: half the side of the grid, rounded down.
        local: Whether neighbours are asked for feedback.
        everywhere: Whether members from everywhere are asked too ("global interaction").
        dropout: Share of the neighbours that is left out where both are asked.
        peers: How many are asked; with ``dropout`` .8 and 16 the settings of the code's single-thread path.
        prior: Pairs of question and answer that a member remembers at the beginning, after its label.
        threshold: Cosine distance below which a remembered question counts as like another.
        embedding: Of questions: ``"words"``, ``"semantic"``, a folder with an encoder, or a language model's spec.
        score_only: Whether peers give ratings without reasons.
        agent: Who drafts and revises: ``"scripted"`` or the spec of a language model.
        peer: Who rates drafts.
        observer: Who rates drafts and revisions for the record.
        temperature: Of language models that answer or are peers; observers are asked greedily.
        max_tokens: Longest answer of a language model.
        questions: How many questions the list has; of a file 0 takes all. Round i gives agent k question i + k,
            wrapping.
        questions_file: File of prompts (as ``Advice-v0`` reads them); "": generated ones, whose truth is known.
        priors_file: JSON or JSON lines of ``{"question", "response", "morality_label": "good" | "bad"}``, what members
            remember at the beginning where the questions are of a file; "": nothing.
        split: Which generated questions.
        peer_noise: Standard deviation of the ratings of scripted peers.
        observer_noise: The same of scripted observers.
    """

    agents: int = 100
    setting: str = "mixed_half_half"
    seed: int = 0
    radius: float | None = None
    local: bool = True
    everywhere: bool = False
    dropout: float = 0.5
    peers: int = 4
    prior: int = 50
    threshold: float = 0.3
    embedding: str = WORDS
    score_only: bool = False
    agent: str = SCRIPTED
    peer: str = SCRIPTED
    observer: str = SCRIPTED
    temperature: float = 1.0
    max_tokens: int = 256
    questions: int = 20
    questions_file: str = ""
    priors_file: str = ""
    split: str = "train"
    peer_noise: float = PEER_NOISE
    observer_noise: float = OBSERVER_NOISE
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Refuse what is no society."""
        object.__setattr__(self, "size", side(self.agents))
        if self.setting not in SETTINGS or self.split not in SPLITS:
            raise ValueError(
                f"expected a setting of {', '.join(SETTINGS)} and a split of {', '.join(SPLITS)}, got "
                f"{self.setting!r} and {self.split!r}"
            )
        for name, low, high in (
            ("dropout", 0, 1), ("threshold", 0, 2), ("prior", 0, 10**6), ("peers", 1, 10**4),
            ("questions", 0 if self.questions_file else 1, 10**6), ("peer_noise", 0, 100), ("observer_noise", 0, 100),
            ("max_tokens", 1, 10**6), ("temperature", 0, 100), ("radius", 0, 10**6),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, got {value}")
        scripted = [role for role in ("agent", "peer", "observer") if getattr(self, role) == SCRIPTED]
        if self.questions_file and scripted:
            raise ValueError(
                "scripted members know the norms of generated questions alone: with questions_file, name a language "
                f"model for {', '.join(scripted)} too"
            )

    @property
    def within(self) -> float:
        """The radius, in cells."""
        return float(self.size // 2) if self.radius is None else self.radius

    def to_json(self) -> dict[str, Any]:
        """Return what decides the world; how a server is asked (concurrency, cache, ...) does not."""
        told = asdict(self)
        del told["size"]
        for role in ("agent", "peer", "observer"):
            told[role] = model_name(told[role])
        return told

    @property
    def world(self) -> str:
        """Name of the world: its setting, and a hash of all settings."""
        digest = blake2b(json.dumps(self.to_json(), sort_keys=True).encode(), digest_size=6).hexdigest()
        return f"{self.setting}-{digest}"


def model_name(spec: str) -> str:
    """Return a spec without what only says how a server is asked."""
    if spec == SCRIPTED or parse(spec).backend != "openai":
        return spec
    return spec.partition("?")[0]


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Return in words where two settings differ."""
    names = [f.name for f in fields(Settings) if f.name in found or f.name in wanted]
    told = [f"{n}: {found.get(n)!r}, not {wanted.get(n)!r}" for n in names if found.get(n) != wanted.get(n)]
    return "; ".join(told)


def round_path(folder: Path, number: int) -> Path:
    """Return where a round is written."""
    return folder / "rounds" / f"{number:06d}.json"
