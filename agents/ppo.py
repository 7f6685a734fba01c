"""PPO on text: a language model learns to talk from what its utterances earn, in any text environment.

Papers: PPO, Schulman et al. 2017, arXiv:1707.06347; its use with a penalty for drifting from a reference, Ziegler et
al. 2019, arXiv:1909.08593; RLOO, Ahmadian et al. 2024, arXiv:2402.14740; GRPO, Shao et al. 2024, arXiv:2402.03300.

One round: the policy plays ``episodes`` whole dialogues at temperature 1, and learns from them in ``epochs`` passes.

- *An action* is a token that was said, the one that ends a turn included if it was said; of a reply that was cut
  every token is learned, and no end. Its old log-probability is that of the roll-out, given exactly what was read.
- *Its reward* is that of its turn, at the turn's last token, less ``kl_weight * (log p_old - log p_reference)`` at
  every token. The mean of that over dialogues is -kl_weight times the KL of the policy from the reference, which is
  the model as training began: with an adapter the model without it, else a frozen copy.
- *Its advantage*: ``gae`` over all tokens of the dialogue, a turn's last token being followed by the first of the
  agent's next turn, with values of a small head on the model's states; or, with no such head, what the dialogue earned
  against others of the same start (``rloo``, ``grpo``), for every token alike.

Differences from the papers and their usual code:

1. Episodes are dialogues of several turns and are never cut for an update, so that no value is needed but at states
   in which the agent speaks. A dialogue that runs out of turns is over (``cut_ends``): what is left is visible to who
   reads all of it, and it is what the return counts.
2. ``gamma`` and ``lam`` count per turn (``discount="token"``: per token, as elsewhere).
3. The KL is in the reward for ``grpo`` too, which has it in the loss.
4. The gradient of the value stops at its head (``value_alone``), which has a learning rate of its own.
5. Losses are means over the tokens of an update, so long dialogues count more.
6. Dropout is off in updates too: with it the ratio would not begin at 1.
7. Updates of a round stop when the policy has moved by ``stop_kl``; the learning rate goes on as if all were made.

Run it with ``python -m dialog_gym.agents.ppo --env dialog_gym/Bargain-v0 --lm tiny --lora 8 --out runs/ppo``.
Several processes (``accelerate launch``) share roll-outs, what is asked about them, and updates. Which dialogues are
played, and the chance in them, do not depend on how many there are.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents import ppo_losses as losses
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_processes import accelerator_of, gathered, micro_of, together
from dialog_gym.agents.lm_steps import StepArgs, Stepped, Stepper, Sums
from dialog_gym.agents.lm_tokens import TokenRow, batch_of
from dialog_gym.agents.loop import above_0, at_least, from_0_to_1, run_training
from dialog_gym.agents.ppo_judge import Judge
from dialog_gym.agents.ppo_play import Played, Player, rows_of
from dialog_gym.agents.state import Arrays, join, split
from dialog_gym.rewards.spec import files_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Args(StepArgs):
    """Settings of ``ppo``; comments say what the papers have: PPO / Ziegler / RLOO / GRPO."""

    out: str = "runs/ppo"
    """Run folder. The same command started again goes on there."""
    steps: int = 6400
    """Length in dialogues, rounded up to whole rounds."""
    episodes: int = 64  # - / 512 / 512 / 1024
    """Dialogues per round."""
    rows: int = 64
    """Dialogues in parallel."""
    batch: int = 16
    """Dialogues per update, a divisor of episodes."""
    epochs: int = 2  # 3 to 15 / 4 / 2 / 1
    """Passes over the dialogues of a round."""
    advantage: Literal["gae", "rloo", "grpo"] = "gae"
    """Against what a token is judged: the value of its state, or other dialogues of the same start."""
    group: int = 8  # - / - / 2 or 4 / 64
    """Dialogues of each start, a divisor of episodes; with rloo and grpo."""
    gamma: float = 1.0  # .99 / 1 / 1 / 1
    """Discount."""
    lam: float = 0.95  # .95 / .95 / - / -
    """Weight of what was observed against what was expected; with gae."""
    discount: losses.Discount = "turn"
    """Whether gamma and lam count per turn or per token."""
    cut_ends: bool = True
    """Whether a dialogue that runs out of turns is over, as its return has it; else the value head tells what it would
    still earn. With gae."""
    clip_ratio: float = 0.2  # .2 everywhere
    """How far the probability of a token is moved by one round's dialogues."""
    entropy: float = 0.0  # .01 / 0 / 0 / 0
    """Weight of the entropy of the next token in the objective."""
    value_weight: float = 0.5  # 1 / .1 / - / -
    """Weight of the value's loss."""
    value_clip: float = 0.0
    """How far values are moved by one round's dialogues; 0: as far as they are wrong."""
    value_alone: bool = True
    """Whether the value's gradient stops at its head."""
    value_lr: float = 1e-3
    """The head's learning rate; of a larger one its units died."""
    temperature: float = 1.0
    """Of what is said after training and in evaluations: 1 is the policy that was trained. The most probable words (0)
    are another one, which may come to earn less meanwhile."""
    kl_weight: float = 0.01  # - / .15 / .03 / .04
    """Reward per nat by which a dialogue is likelier than under the reference."""
    kl_target: float = 0.0  # - / 6 / - / -
    """Nats per turn to which kl_weight is adapted; 0 leaves it."""
    kl_rate: float = 0.1
    """How fast it is adapted; see ``ppo_losses.adapted``."""
    stop_kl: float = 0.05
    """Nats per token by which a round may move the policy; 0: without limit."""
    budget: float | Literal["task"] | None = None
    """Mean cost of a dialogue that is allowed: costs are then paid for, at a price that holds them there
    (``dialog_gym.wrappers.lagrangian``). ``task``: what the task allows; None: costs do not matter."""
    reward: str = ""
    """What is earned in training instead of the environment's reward: true, score, none, sentiment, the folder of a
    learned one (``dialog_gym.rewards.spec``), a name or module:name. Evaluations are on the environment's own."""
    best: Literal["return", "none"] = "none"
    """Keep the policy with the highest eval/return; none keeps the last."""
    samples: int = 4
    """Dialogues of the last round that are written down at each evaluation."""
    packed: bool = True
    """Put several rows into one line of tokens, which saves padding. Does not change the result."""
    lr: float = 3e-4
    """AdamW's learning rate; smaller for large models."""
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """How the learning rate goes on after the warm-up."""
    warmup: float = 0.0
    """Share of the updates in which the learning rate rises."""
    eval_every: int = 640
    """Dialogues between evaluations; 0: never."""
    log_every: int = 64
    """Dialogues between lines of metrics."""
    checkpoint_every: int = 640
    """Dialogues between checkpoints."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 1, "episodes", "epochs")
        at_least(self, 0, "clip_ratio", "entropy", "value_weight", "value_clip", "value_lr", "stop_kl", "samples")
        at_least(self, 0, "kl_weight", "kl_target", "kl_rate")
        from_0_to_1(self, "gamma", "lam")
        if self.episodes % self.batch:
            raise ValueError(f"batch must divide episodes, got batch={self.batch} and episodes={self.episodes}")
        if self.grouped and (self.group < 2 or self.episodes % self.group):
            raise ValueError(
                f"{self.advantage} compares dialogues of one start: group must be at least 2 and divide episodes, got "
                f"group={self.group} and episodes={self.episodes}"
            )
        if self.lora_dropout:
            raise ValueError(
                f"lora_dropout={self.lora_dropout}: with dropout the policy that learns is not the one that spoke; "
                "set it to 0"
            )
        above_0(self, "lr")
        if not self.env:
            raise ValueError("ppo learns by playing: it needs an environment (env)")
        if isinstance(self.budget, (int, float)):
            at_least(self, 0, "budget")

    @property
    def data_used(self) -> tuple[str, ...]:
        """The files of a learned reward."""
        return files_of(self.reward)

    @property
    def grouped(self) -> bool:
        """Whether dialogues are judged against others of the same start."""
        return self.advantage != "gae"

    @property
    def starts_alike(self) -> int:
        """How many dialogues in succession have one start."""
        return self.group if self.grouped else 1


class PPO(LMPolicy):
    """A language model that learned from what it said."""

    name = "ppo"
    args_class: ClassVar[type[LMArgs]] = Args

    @classmethod
    def head_sizes(cls, args: Args) -> dict[str, int]:
        """Return the value head, with ``gae``."""
        return {} if args.grouped else {"value": 1}


class Training(Stepped):
    """A run in progress. Between two rounds nothing is under way, so a checkpoint holds weights and few numbers.

    Attributes:
        agent: The policy that is trained.
        step: Dialogues played.
        kl_weight: What a nat costs now.
        judge: Tells what was worth how much.
    """

    def __init__(self, args: Args) -> None:
        """Make policy, reference and environment; everything that can be refused is refused here."""
        self.args, self.step, self.kl_weight = args, 0, args.kl_weight
        self.accelerator = accelerator = accelerator_of(args, shards=False)
        self.processes: tuple[int, int] = (accelerator.process_index, accelerator.num_processes)
        self.micro = micro_of(args, accelerator.num_processes)
        self._check_processes()
        with together(accelerator):
            self.agent = PPO.build(args, device=str(accelerator.device))
            self.player = Player(self.agent, args, min(args.rows, args.episodes // self.processes[1]))
        adapted = self.agent.network.has_adapter
        reference = None if adapted else copy.deepcopy(self.agent.network).requires_grad_(False).eval()
        self.judge = Judge(self.agent, reference, args, accelerator)
        self.updates = args.epochs * args.episodes // args.batch
        rounds = -(-args.steps // args.episodes)
        total = rounds * self.updates
        self.stepper = Stepper(self.agent.network, args, accelerator, total, heads=args.value_lr / args.lr)
        if args.value_alone and not args.grouped:
            self.agent.network.heads["value"].register_forward_pre_hook(lambda head, given: given[0].detach())
        self._best: float | None = None
        self._logged: dict[str, list[float]] = {}
        self._last: list[Played] = []

    def _check_processes(self) -> None:
        _, count = self.processes
        if count > 1 and self.args.budget is not None:
            raise ValueError("a budget is kept by one process: leave budget out, or start one process")
        if self.args.episodes % count:
            raise ValueError(f"episodes must be a multiple of the {count} processes, got {self.args.episodes}")

    # --- a round -----------------------------------------------------------------------------------

    def advance(self) -> None:
        """Play one round of dialogues and learn from it."""
        began = time.perf_counter()
        played = self._last = self._play()
        played_at = time.perf_counter()
        dialogues = [rows_of(one, self.agent) for one in played]
        dialogues, told = self.judge.judge(played, dialogues, self.kl_weight)
        judged_at = time.perf_counter()
        made = self.learn(dialogues)
        learned_at = time.perf_counter()
        said = sum(len(row.said) for rows in dialogues for row in rows)
        self._log(
            {
                **_told(played, dialogues),
                **told,
                "kl/weight": self.kl_weight,
                "train/updates": made,
                "time/rollout_seconds": played_at - began,
                "time/judge_seconds": judged_at - played_at,
                "time/update_seconds": learned_at - judged_at,
                "time/tokens_per_second": said / (learned_at - began),
            }
        )
        if self.args.kl_target:
            self.kl_weight = losses.adapted(self.kl_weight, told["kl/turn"], self.args.kl_target, self.args.kl_rate)
        if self.player.lagrangian is not None:
            self._log({"train/multiplier": self.player.lagrangian.multiplier})
        self.step += self.args.episodes

    def _play(self) -> list[Played]:
        index, count = self.processes
        numbers = range(self.step + index, self.step + self.args.episodes, count)
        return sorted(gathered(self.accelerator, self.player.play(numbers)), key=lambda played: played.number)

    def chosen(self, dialogues: Sequence[list[TokenRow]]) -> Iterator[list[list[TokenRow]]]:
        """Yield the dialogues of each update of a round: all of them in random order, ``epochs`` times."""
        args, count = self.args, len(dialogues)
        for update in range(self.updates):
            epoch, place = divmod(update * args.batch, count)
            order = np.random.default_rng([args.seed, 3, self.step // args.episodes, epoch]).permutation(count)
            yield [dialogues[one] for one in order[place : place + args.batch]]

    def learn(self, dialogues: Sequence[list[TokenRow]]) -> int:
        """Make the updates of a round of judged dialogues, until the policy has moved enough; return how many."""
        args = self.args
        self.stepper.steps = self.step // args.episodes * self.updates
        made = 0
        for chosen in self.chosen(dialogues):
            told = self.stepper.step(
                self._in_parts(chosen), self._loss_of, float(sum(len(row.said) for one in chosen for row in one))
            )
            means = {name: float(value) for name, value in told.items()}
            self._log({f"update/{name}": value for name, value in means.items()})
            made += 1
            if args.stop_kl and means["moved"] > args.stop_kl:
                break
        self.agent.forget()
        return made

    def _in_parts(self, dialogues: Sequence[list[TokenRow]]) -> list[list[TokenRow]]:
        """Return the rows that are in memory at once; dialogues of like length share a part."""
        micro = self.micro
        ordered = sorted(dialogues, key=lambda rows: max(map(len, rows))) if micro < len(dialogues) else dialogues
        return [[row for one in ordered[at : at + micro] for row in one] for at in range(0, len(ordered), micro)]

    def _loss_of(self, rows: list[TokenRow]) -> tuple[Tensor, Sums]:
        args, batch = self.args, batch_of(rows, packed=self.args.packed).to(self.stepper.accelerator.device)
        without_dropout(self.agent.network)
        outputs = self.stepper.network(batch.tokens, batch.positions, batch.where)
        new, entropy = losses.log_probabilities(outputs.logits, batch.actions)
        old = batch.more["old"]
        policy = losses.policy_loss(new, old, batch.more["advantage"], args.clip_ratio)
        loss = policy - args.entropy * entropy if args.entropy else policy
        told = {"policy": policy.sum(), "entropy": entropy.sum()}
        if not args.grouped:
            worth = outputs.heads["value"][:, 0]
            value = losses.value_loss(worth, batch.more["value"], batch.returns, args.value_clip)
            loss = loss + args.value_weight * value
            told["value"] = value.sum()
        with torch.no_grad():
            told["moved"] = losses.moved(new, old).sum()
            told["clipped"] = ((new - old).expm1().abs() > args.clip_ratio).sum()
        return loss.sum(), told

    # --- the training loop's side (see dialog_gym.agents.loop) -------------------------------------

    @property
    def total(self) -> int:
        """Dialogues in all."""
        return self.args.episodes * math.ceil(self.args.steps / self.args.episodes)

    def begin(self) -> None:
        """Stand at step 0."""

    def _log(self, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._logged.setdefault(name, []).append(float(value))

    def pop_metrics(self) -> dict[str, float]:
        """Return and forget the means of what happened since the last call."""
        logged, self._logged = self._logged, {}
        return {name: float(np.mean(values)) for name, values in logged.items()}

    def evaluated(self, metrics: dict[str, float], folder: Path) -> dict[str, float]:
        """Write down some dialogues of the last round, and keep the policy if it is the best so far."""
        shown = [one.dialogue for one in self._last[: self.args.samples]]
        if shown:
            place = folder / "samples" / f"step-{self.step:09d}.jsonl"
            place.parent.mkdir(exist_ok=True)
            lines = [[f"{turn.role}: {turn.text}" for turn in dialogue.turns] for dialogue in shown]
            place.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines), encoding="utf-8")
        value = metrics.get("eval/return")
        if self.args.best == "return" and value is not None and (self._best is None or value > self._best):
            self._best = value
            self.agent.save(folder / "best")
        return {}

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that ``restore`` needs."""
        priced = self.player.lagrangian
        data = {"kl_weight": self.kl_weight, "best": self._best}
        return join(steps=self.stepper.state()), data | {"price": None if priced is None else priced.get_state()}

    def restore(self, step: int, arrays: Arrays, data: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned at ``step``."""
        self.stepper.restore(split(arrays)["steps"], step // self.args.episodes * self.updates)
        self.step, self.kl_weight, self._best = step, data["kl_weight"], data["best"]
        if self.player.lagrangian is not None:
            self.player.lagrangian.set_state(data["price"])

    def state_bytes(self) -> int:
        """Return how large a checkpoint can become: the training's state, and the policy beside it."""
        return self.stepper.state_bytes() + sum(int(one.nbytes) for one in self.agent.network.state_dict().values())

    def finish(self, folder: Path) -> None:
        """Go back to the best policy, if that is to be kept."""
        if self._best is not None:
            self.agent = PPO.load(folder / "best", device=str(self.stepper.accelerator.device))
        self.agent.forget()

    def close(self) -> None:
        """Close the environment."""
        self.player.close()


def without_dropout(network: nn.Module) -> None:
    """Put ``network`` into evaluation mode, but for the flags by which layers know that they are to recompute."""
    network.eval()
    for module in network.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True


def _told(played: Sequence[Played], dialogues: Sequence[list[TokenRow]]) -> dict[str, float]:
    """Return what there is to say of a round."""
    said = [one for dialogue in played for one in dialogue.said]
    ended = [one.dialogue for one in played]
    return {
        "train/return": float(np.mean([one.earned for one in played])),
        "train/cost": float(np.mean([one.costs for one in played])),
        "train/success": float(np.mean([one.success for one in ended])),
        "train/turns": float(np.mean([one.turn for one in ended])),
        "train/tokens_per_turn": float(np.mean([len(one.drawn.tokens) for one in said])),
        "train/cut": float(np.mean([one.drawn.stop == "length" for one in said])),
        "train/rows_per_dialogue": float(np.mean([len(rows) for rows in dialogues])),
    }


def train(args: Args, *, evaluate: Evaluate | None = None) -> PPO:
    """Train a policy, or go on where the run folder ``args.out`` stands, and return it.

    Args:
        args: Every setting.
        evaluate: Called with the agent every ``args.eval_every`` dialogues; returns what to log. By default the mean
            return of ``args.eval_episodes`` dialogues at ``args.temperature``, with its interval.

    Raises:
        ValueError: Model, environment and settings do not fit; nothing has been trained.
        DivergedError: A gradient became infinite; the last checkpoint is from before.
        RunFolderError: The folder is of another run, in use, or cannot be written.
        Interrupted: Ctrl-C was pressed; a checkpoint has been written.
    """
    return run_training(PPO, args, Training, evaluate)


if __name__ == "__main__":
    main("ppo")
