"""One run of reward learning: batches, updates, evaluation; saved and restored exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dialog_gym.rewards.decomposition import conversations
from dialog_gym.rewards.decomposition.cache import EncodingCache, TextFile, default_folder
from dialog_gym.rewards.decomposition.conversations import Conversation, parted
from dialog_gym.rewards.decomposition.encoders import ModelEncoder, batches, load_encoder
from dialog_gym.rewards.decomposition.learner import Learner, objective
from dialog_gym.rewards.decomposition.losses import draw_turns
from dialog_gym.rewards.decomposition.metrics import by_class, classes, correlations
from dialog_gym.rewards.decomposition.model import TurnModel
from dialog_gym.rewards.decomposition.training import Args, drawn_turns, reading_of, scale_of, told

Arrays = Mapping[str, np.ndarray[Any, Any]]

_EVAL = 64  # conversations per forward pass outside training
_CHUNK = 8192  # encodings that are in memory for their mean


class Fitting:
    """A run in progress. Between two calls of ``advance`` it can be saved and restored exactly.

    Attributes:
        step: Updates made.
        model: What is trained.
    """

    def __init__(self, args: Args, folder: Path) -> None:
        """Read the data and make the network; everything that can be refused is refused here."""
        self.args, self.step = args, 0
        reading = reading_of(args)
        encoder = load_encoder(
            args.encoder,
            pool=args.pool,
            max_tokens=args.max_tokens,
            notation=reading.notation,
            device=args.device or None,
        )
        self.tuned: ModelEncoder | None = None
        if args.tune:
            if not isinstance(encoder, ModelEncoder):
                raise ValueError(f"tune tunes a model, got the encoder {args.encoder!r}")
            self.tuned = encoder.tuned_copy()
        self._texts = TextFile(folder / "texts", self.tuned) if self.tuned else None
        self._cache = None if self._texts else EncodingCache(args.cache or default_folder(), encoder)
        store: Any = self._texts or self._cache
        records = conversations.records(args.episodes, skip_bad=args.skip_bad)
        self.read = conversations.read(records, store, args.wanted)
        self.train, self.held, self.tested = parted(self.read.conversations, args.held_out, args.seed)
        self.k = drawn_turns(args, self.train)
        self.vectors = None if self._cache is None else self._cache.vectors
        scale = scale_of(self.train, args)
        mean, spread = self._centre(encoder.size, args.encoder.startswith("bag") or self.tuned is not None)
        with _seeded(args.seed, 0):
            self.learner = Learner(args.head_spec.make(encoder.size), args.link)
        self.model = TurnModel(
            self.learner.head,
            args.head_spec,
            encoder.size,
            reading,
            scale,
            mean,
            spread,
            fingerprint=encoder.fingerprint(),
        )
        groups = [{"params": list(self.learner.parameters()), "lr": args.learning_rate}]
        if self.tuned is not None:
            groups.append({"params": list(self.tuned.model.parameters()), "lr": args.tune_learning_rate})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=args.weight_decay)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._losses: list[float] = []
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    # --- updates -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Make one update."""
        args = self.args
        rows = _batch(len(self.train), args.batch, self.step, args.seed)
        batch = [self.train[row] for row in rows]
        turns = torch.tensor([len(one.rows) for one in batch])
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + self.step)
        places, mask = draw_turns(turns, self.k, args.replacement, generator)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * (1 - self.step / args.steps)
        self.learner.train()
        with _seeded(args.seed, self.step + 1):
            loss = self._loss(batch, turns, places, mask, bool(self.k))[0].mean()
        _need_finite(float(loss.detach()), f"the loss of update {self.step + 1}")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._losses.append(float(loss.detach()))
        self.step += 1

    def _loss(
        self, batch: Sequence[Conversation], turns: Tensor, places: Tensor, mask: Tensor, drawn: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the loss of each conversation, and rewards and signals of its turns; all in standard units."""
        scale, args = self.model.scale, self.args
        rows = np.stack([one.rows[place] for one, place in zip(batch, places.numpy(), strict=True)])
        local = np.stack([one.local[place] for one, place in zip(batch, places.numpy(), strict=True)])
        score = torch.tensor([(one.score - scale.offset) / scale.unit for one in batch])
        predicted = self.learner((self._encodings(rows) - self.model.mean) / self.model.spread)
        signal = (torch.from_numpy(local) - scale.local_offset) / scale.local_unit
        loss = objective(
            args.method,
            predicted,
            mask,
            turns,
            score,
            signal,
            weight=args.weight,
            replacement=drawn and args.replacement,
            per_turn=args.scores == "standard",
        )
        return loss, predicted

    def _encodings(self, rows: np.ndarray[Any, Any]) -> Tensor:
        """Return the encodings of ``rows``, shape ``(*rows.shape, size)``."""
        if self.tuned is None:
            assert self.vectors is not None
            return torch.from_numpy(np.asarray(self.vectors[rows], np.float32))
        assert self._texts is not None
        once, places = np.unique(rows, return_inverse=True)
        tokens = self.tuned.tokens(self._texts.texts(once.tolist()))
        parts = batches([len(ids) for ids in tokens])  # in evaluations, memory holds one of them at a time
        states = torch.cat([self.tuned.states([tokens[row] for row in part]).cpu() for part in parts])
        states = states[torch.tensor([row for part in parts for row in part]).argsort()]
        return states[torch.from_numpy(places.reshape(rows.shape))]

    def _centre(self, size: int, plain: bool) -> tuple[Tensor, Tensor]:
        """Return mean and spread of the training encodings, read in parts; 0 and 1 where they stay as they are."""
        if plain or self.vectors is None:
            return torch.zeros(size), torch.ones(size)
        rows = np.unique(np.concatenate([one.rows for one in self.train]))
        total, squares = np.zeros(size), np.zeros(size)
        for start in range(0, len(rows), _CHUNK):
            part = np.asarray(self.vectors[rows[start : start + _CHUNK]], np.float64)
            total += part.sum(0)
            squares += (part**2).sum(0)
        mean = total / len(rows)
        spread = np.sqrt(np.maximum(squares / len(rows) - mean**2, 1e-8))
        return torch.tensor(mean, dtype=torch.float32), torch.tensor(spread, dtype=torch.float32)

    # --- evaluation --------------------------------------------------------------------------------

    def pop_losses(self) -> dict[str, float]:
        """Return and forget the mean training loss since the last call."""
        losses, self._losses = self._losses, []
        return {"loss/train": float(np.mean(losses))} if losses else {}

    def evaluate(self) -> dict[str, float]:
        """Return what the present head is worth on the conversations to choose by, and note the best."""
        found = self._measured(self.held)
        _need_finite(found["eval/loss"], f"the loss on held-out conversations after update {self.step}")
        if self._best is None or found["eval/loss"] < self._best[0]:
            self._best = (found["eval/loss"], self.step, self._weights())
        return found

    def _measured(self, held: Sequence[Conversation]) -> dict[str, float]:
        """Return losses over all turns, correlations and means per class; losses in units of score and signal."""
        scale = self.model.scale
        losses, rewards, shown = self._predicted(held)
        found = {"eval/loss": float(np.mean(losses))}
        if not np.isnan(held[0].score):
            errors = [one.score - scale.offset - scale.unit * r.sum() for one, r in zip(held, rewards, strict=True)]
            found["eval/global_loss"] = float(np.mean(np.square(errors)))
            spread = float(np.var([one.score for one in held]))
            found["eval/explained"] = 1 - found["eval/global_loss"] / spread if spread > 0 else 0.0
        local = np.concatenate([one.local for one in held])
        there = ~np.isnan(local)
        if there.any():
            signal = scale.local_offset + scale.local_unit * np.concatenate(shown)
            found["eval/local_loss"] = float(np.mean((signal - local)[there] ** 2))
            parts = classes(np.concatenate([one.local for one in self.train]))
            means = by_class(np.concatenate(rewards) * scale.unit, local, parts)
            found |= {f"reward_of/{name}": value for name, value in means.items()}
        truth = [one.truth for one in held]
        if all(one is not None for one in truth):
            found |= {f"truth/{k}": v for k, v in correlations(rewards, truth).items() if np.isfinite(v)}  # type: ignore[arg-type]
        return found

    @torch.inference_mode()
    def _predicted(
        self, held: Sequence[Conversation]
    ) -> tuple[list[float], list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
        """Return loss, rewards and predicted signal of each conversation, in standard units, without dropout."""
        self.learner.eval()
        losses: list[float] = []
        rewards: list[np.ndarray[Any, Any]] = []
        shown: list[np.ndarray[Any, Any]] = []
        for start in range(0, len(held), _EVAL):
            batch = held[start : start + _EVAL]
            turns = torch.tensor([len(one.rows) for one in batch])
            places, mask = draw_turns(turns, 0, False, torch.Generator())
            loss, both = self._loss(batch, turns, places, mask, False)
            losses += loss.tolist()
            for one, some, seen in zip(batch, *both, strict=True):
                rewards.append(some[: len(one.rows)].numpy())
                shown.append(seen[: len(one.rows)].numpy())
        return losses, rewards, shown

    def report(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return metrics of the best head on conversations that did not choose it, and their turns, as JSON."""
        assert self._best is not None
        self._load(self._best[2])
        metrics: dict[str, Any] = {**self._measured(self.tested), "best_step": self._best[1], "k": self.k}
        metrics |= told(self.read, len(self.train))
        _, rewards, _ = self._predicted(self.tested)
        unit = self.model.scale.unit
        turns = {
            "key": [one.key for one in self.tested for _ in one.rows],
            "reward": [float(value) * unit for some in rewards for value in some],
            "local": [None if np.isnan(value) else float(value) for one in self.tested for value in one.local],
            "truth": [
                None if one.truth is None else float(one.truth[turn])
                for one in self.tested
                for turn in range(len(one.rows))
            ],
        }
        return metrics, turns

    def best_model(self) -> TurnModel:
        """Return the model of the lowest held-out loss."""
        assert self._best is not None
        self._load(self._best[2])
        self.model.head.eval()
        if self.tuned is not None:
            self.model.encoder_state = dict(self.tuned.model.state_dict())
        return self.model

    def close(self) -> None:
        """Remove what only the run needed."""
        if self._texts is not None:
            self._texts.remove()

    # --- saving ------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
        """Return all that ``restore`` needs, as arrays and JSON."""
        arrays = {f"weights/{name}": tensor.numpy() for name, tensor in self._weights().items()}
        for number, memory in self.optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{number}/{name}": value.cpu().numpy().copy() for name, value in memory.items()}
        data: dict[str, Any] = {"losses": self._losses, "fingerprint": self.model.fingerprint}
        if self._best is not None:
            arrays |= {f"best/{name}": tensor.numpy() for name, tensor in self._best[2].items()}
            data |= {"best_loss": self._best[0], "best_step": self._best[1]}
        return arrays, data

    def restore(self, step: int, saved: Any) -> None:
        """Go on from what ``state`` returned at ``step``.

        Raises:
            ValueError: The encoder is not the one that the run began with.
        """
        arrays, data = saved
        if data.get("fingerprint", self.model.fingerprint) != self.model.fingerprint:
            raise ValueError(
                f"the encoder {self.args.encoder!r} is not the one that this run began with; put that back, or begin "
                "in a new run folder"
            )
        self.step, self._losses = step, list(data["losses"])
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "best": {}}
        for path, array in arrays.items():
            part, _, name = path.partition("/")
            parts[part][name] = torch.from_numpy(np.array(array))
        self._load(parts["weights"])
        memory: dict[int, dict[str, Tensor]] = {}
        for path, tensor in parts["optimizer"].items():
            number, _, name = path.partition("/")
            memory.setdefault(int(number), {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": memory, "param_groups": groups})
        if "best_loss" in data:
            self._best = (data["best_loss"], data["best_step"], parts["best"])

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"learner": self.learner} | ({} if self.tuned is None else {"encoder": self.tuned.model})

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of all weights, by module and name."""
        return {
            f"{part}/{name}": tensor.detach().cpu().clone()
            for part, module in self._modules().items()
            for name, tensor in module.state_dict().items()
        }

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        for part, module in self._modules().items():
            prefix = f"{part}/"
            module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})


def _need_finite(loss: float, what: str) -> None:
    """Refuse to go on, and to save a reward, where training has gone astray."""
    if not np.isfinite(loss):
        raise ValueError(f"{what} is {loss}: training diverged; give a smaller learning_rate, in a new run folder")


def _batch(count: int, size: int, step: int, seed: int) -> list[int]:
    """Return which conversations update ``step`` learns from: in random order, each once before any comes again."""
    places = range(step * size, (step + 1) * size)
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(count) for epoch in {p // count for p in places}}
    return [int(orders[place // count][place % count]) for place in places]


@contextmanager
def _seeded(seed: int, step: int) -> Iterator[None]:
    """Let torch's chance (first weights, dropout) follow from seed and step inside, and give back what was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 7_919 + step)
        yield
