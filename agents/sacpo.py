"""SACPO: align a model in stages, one metric after another (Wachi et al. 2024, arXiv:2404.11049).

A stage is ``ALGORITHM:METRIC:BETA``, for instance ``dpo:score:0.1``: DPO or KTO on a number of the candidates, kept
near what the stage before it made (the first: near ``lm``) by beta. Two stages, ``dpo:score:0.1 dpo:-cost:0.05``,
solve "highest reward with a bounded cost": the optimum of reward - lambda cost at distance weight beta is the optimum
of -cost at distance weight beta / lambda around the optimum of the reward (``preference_theory.kl_optimum``).
So the beta of a later stage is beta / lambda: the smaller, the safer. There may be any number of stages, in any order.

Several betas, ``dpo:-cost:0.1,0.05,0.025``, are a sweep. Each stage is a run of its own in ``OUT/stages``, named after
the stages up to it, so what two chains have in common is trained once, also by a later command with the same ``out``;
a killed command goes on where it was. Any setting of a stage's training can stand behind it
(``kto:-cost:0.1?threshold=-0.2&lr=0.0005&data=data/safety``); what the policy is, is the same in all (``SHARED``).

A stage learns from ``data`` (off-policy), or with ``?sample=EPISODES`` from rankings that are branched in ``env`` from
what the stage before it says (on-policy).

The run holds the policy of the last chain as its agent; every stage's folder is a run to evaluate, merge
(P-SACPO: ``dialog-gym merge OUT FIRST SECOND --q 0.25 0.5 0.75``) or choose from (``dialog-gym choose``).

With an adapter (``lora``), each stage trains a new one on the sum of those before it.

Run it with ``python -m dialog_gym.agents.sacpo --data runs/ranked --stages dpo:score:0.1 dpo:-cost:0.1,0.05``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, get_origin, get_type_hints

from accelerate import PartialState  # type: ignore[import-untyped]

from dialog_gym import checkpoint
from dialog_gym.agent import Evaluate, agent_spec, config_of, main
from dialog_gym.agents.lm_policy import MODEL, LMArgs, LMPolicy
from dialog_gym.agents.lm_processes import together
from dialog_gym.agents.loop import NO_EFFECT, at_least, rank
from dialog_gym.agents.preference_data import require_metric
from dialog_gym.agents.preference_training import StageArgs
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rank import NEXT, Options, collect_rankings
from dialog_gym.errors import unknown
from dialog_gym.lm.merge_adapters import sum_adapters, with_adapter, without_adapter
from dialog_gym.lm.spec import converted
from dialog_gym.runs import lock_folder

log = logging.getLogger("dialog_gym")

ALGORITHMS = ("dpo", "kto")
SHARED = {"metric", "beta", "out", "env_kwargs", *LMArgs.__annotations__}
"""Settings that no stage has of its own. Those of ``LMArgs`` say what a policy is: stages go on from each other's."""


@dataclass(frozen=True)
class Args(StageArgs):
    """Settings of ``sacpo``; those of training hold for all stages."""

    out: str = "runs/sacpo"
    """Folder of all chains of stages. The same command started again goes on there, another adds to it."""
    lr: float = 0.0
    """AdamW's learning rate; 0: that of each stage's algorithm."""
    stages: tuple[str, ...] = ("dpo:score:0.1", "dpo:-cost:0.1")
    """``ALGORITHM:METRIC:BETA[,BETA...][?SETTING=VALUE&...]``, in their order; sample=EPISODES learns on-policy."""
    sample_k: int = 8
    """Candidates of a state, in stages with sample."""
    sample_by: str = NEXT
    """Who goes on after a candidate, see `dialog-gym branch`; next: only the next step counts."""
    sample_plays: int = 1
    """Copies of the state that each candidate is tried on."""
    sample_seed: int = 700_000
    """Seed of the first dialogue that is sampled; those of each stage are others."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 2, "sample_k")
        at_least(self, 1, "sample_plays")
        at_least(self, 0, "sample_seed")
        if not self.stages:
            raise ValueError("stages must name at least one stage, for instance dpo:score:0.1")
        for stage in self.stages:
            parse_stage(stage)


@dataclass(frozen=True)
class Stage:
    """One stage of one chain.

    Attributes:
        algorithm: ``dpo`` or ``kto``.
        metric: What is learned from, as in ``Ranking.by``.
        beta: Weight of the distance from the stage before.
        sample: Dialogues that rankings are sampled from; 0: the data are given.
        options: Settings of the algorithm, names and texts.
    """

    algorithm: str
    metric: str
    beta: float
    sample: int = 0
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its part of the name of a folder."""
        return f"{self.algorithm}_{self.metric}_{self.beta:g}" + (f"_on{self.sample}" if self.sample else "")


Chain = tuple[Stage, ...]


class SACPO(LMPolicy):
    """Says what the last of several stages of alignment made."""

    name = "sacpo"
    args_class: ClassVar[type[LMArgs]] = Args


# --- stages ---------------------------------------------------------------------------------------


def parse_stage(text: str) -> list[Stage]:
    """Return the stages that ``ALGORITHM:METRIC:BETA[,BETA...][?SETTING=VALUE&...]`` names, one for each beta.

    >>> [stage.name for stage in parse_stage("dpo:-cost:0.1,0.05?lr=0.001")]
    ['dpo_-cost_0.1', 'dpo_-cost_0.05']

    Raises:
        ValueError: It has no such form, or both data and sample.
        KeyError: There is no such algorithm; the message names the nearest.
    """
    told, _, tail = text.partition("?")
    algorithm, _, rest = told.partition(":")
    metric, _, betas = rest.rpartition(":")
    options = dict(part.partition("=")[::2] for part in tail.split("&") if part)
    sample = options.pop("sample", "0")
    if algorithm not in ALGORITHMS:
        raise unknown("algorithm of a stage", algorithm, ALGORITHMS)
    try:
        numbers = [float(beta) for beta in betas.split(",")]
        episodes = int(sample)
    except ValueError:
        numbers, episodes = [], -1
    if not metric or not numbers or episodes < 0 or not all(options.values()):
        raise ValueError(f"a stage looks like dpo:score:0.1 or kto:-cost:0.1,0.05?lr=0.001&sample=500, got {text!r}")
    if episodes and "data" in options:
        raise ValueError(f"a stage learns from data or from what it samples, not from both, got {text!r}")
    return [Stage(algorithm, metric, beta, episodes, tuple(options.items())) for beta in numbers]


def chains(stages: Sequence[str]) -> list[Chain]:
    """Return every chain of stages: one for each choice of betas."""
    return list(itertools.product(*map(parse_stage, stages)))


def folder_of(out: str | Path, chain: Chain) -> Path:
    """Return the run folder of the last stage of ``chain``."""
    return Path(out) / "stages" / "+".join(stage.name for stage in chain)


def stage_args(args: Args, chain: Chain, start: str) -> Any:
    """Return the settings of the last stage of ``chain``, which begins with the model ``start``.

    Raises:
        ValueError: The algorithm refuses them.
        KeyError: It has no such setting; the message names the nearest.
    """
    stage = chain[-1]
    cls = agent_spec(stage.algorithm).args
    shared = {one.name for one in fields(StageArgs)} - (set() if args.lr else {"lr"})
    given = {name: getattr(args, name) for name in shared}
    own = {name: _own(cls, stage.algorithm, name, text) for name, text in stage.options}
    if stage.sample:
        own["data"] = (str(_sampled(args, chain)),)
    place = {"lm": start, "out": str(folder_of(args.out, chain)), "metric": stage.metric, "beta": stage.beta}
    return cls(**{**given, **own, **place})


def _own(cls: type[Any], algorithm: str, name: str, text: str) -> Any:
    """Return the setting ``name`` that a stage has of its own, of the type that ``cls`` declares."""
    hints = get_type_hints(cls)
    if name in SHARED:
        raise ValueError(
            f"{name} cannot be of one stage, got {name}={text}: metric and beta stand before the ?, and what the "
            "policy is and where it plays holds for all stages, so give it to the whole run"
        )
    if name not in hints:
        raise unknown(f"setting of a stage of {algorithm}", name, set(hints) - SHARED)
    if get_origin(hints[name]) is tuple:
        return tuple(text.split(","))
    return converted(f"{name} of a stage", text, hints[name])


def _sampled(args: Args, chain: Chain) -> Path:
    """Return the folder of the rankings that the last stage of ``chain`` samples from the one before it."""
    before = "+".join(stage.name for stage in chain[:-1]) or "start"
    return Path(args.out) / "sampled" / f"{before}-{chain[-1].sample}"


# --- training -------------------------------------------------------------------------------------


def train(args: Args, *, evaluate: Evaluate | None = None) -> SACPO:
    """Train every chain of stages that is not there yet, and return the policy of the last one.

    Args:
        args: Settings.
        evaluate: Scores the policy of each stage while it trains; by default the mean return in the environment.

    Raises:
        DatasetError: The data of a stage are missing or have no such metric; nothing has been trained.
        ValueError: A stage has settings that its algorithm refuses, or a model is missing.
        RunFolderError: ``out`` is in use, or a stage of the same name was trained with other settings.
        Interrupted: Ctrl-C was pressed; a checkpoint has been written.
    """
    wanted = chains(args.stages)
    _check(args, wanted)
    with _led(args):
        made: dict[Chain, tuple[LMPolicy, str]] = {}
        for chain in wanted:
            start = args.lm
            for count in range(1, len(chain) + 1):
                part = chain[:count]
                if part not in made:
                    made[part] = _train_stage(args, part, start, evaluate)
                start = made[part][1]
        return _finish(args, wanted, made[wanted[-1]][0])


@contextmanager
def _led(args: Args) -> Iterator[None]:
    """Hold the folder of all chains; of several processes the first does so."""
    if rank():
        yield
        return
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with lock_folder(out):
        yield


@contextmanager
def _first_alone(args: Args) -> Iterator[bool]:
    """Tell whether this is the process that does the work of the block; the others wait for it, or fail with it."""
    state = PartialState(cpu=args.device == "cpu", timeout=timedelta(minutes=args.patience))
    with together(state):
        yield bool(state.is_main_process)


def _check(args: Args, wanted: Sequence[Chain]) -> None:
    """Refuse before anything is trained what a stage would refuse later."""
    for part in {chain[:count]: None for chain in wanted for count in range(1, len(chain) + 1)}:
        settings = stage_args(args, part, args.lm)
        if part[-1].sample:
            if not args.env:
                raise ValueError(f"stage {part[-1].name} samples its rankings, which needs an environment (env)")
        elif not settings.data:
            raise DatasetError(
                f"stage {part[-1].name}: expected data to learn from (data), got none; `dialog-gym branch` makes "
                "rankings, and ?sample=EPISODES samples them from the stage before"
            )
        else:
            require_metric(settings.data, part[-1].metric)


def _train_stage(args: Args, chain: Chain, start: str, evaluate: Evaluate | None) -> tuple[LMPolicy, str]:
    """Train the last stage of ``chain``; return its policy, and the spec of the model that it is."""
    stage, folder = chain[-1], folder_of(args.out, chain)
    log.info("stage %d: %s from %s", len(chain), stage.name, start)
    if stage.sample and not (folder / "result.json").exists():
        with _first_alone(args) as mine:
            if mine:
                _sample(args, chain, start)
    policy = agent_spec(stage.algorithm).train(stage_args(args, chain, start), evaluate=evaluate)
    assert isinstance(policy, LMPolicy)
    return policy, _spec_of(args, folder, start)


def _sample(args: Args, chain: Chain, start: str) -> None:
    """Branch dialogues of the policy that the stage begins with."""
    stage = chain[-1]
    speaks = "lm-sampled"
    options = Options(
        args.env,
        args.env_kwargs,
        reach=speaks,
        candidates=(speaks,),
        k=args.sample_k,
        by=args.sample_by,
        plays=args.sample_plays,
        lm=start,
    )
    seed = args.sample_seed + (len(chain) - 1) * max(one.sample for one in chain)  # behind those of stages before
    folder = _sampled(args, chain)
    asked = {**asdict(options), "seed": seed}
    if (old := checkpoint.claim(folder.with_name(f"{folder.name}.json"), asked)) is not None:
        raise ValueError(
            f"{folder} was sampled with {old}, and now {asked} is asked for: choose another out, or remove the folder "
            "and the file beside it"
        )
    collect_rankings(options, stage.sample, folder, seed=seed, rows=args.rows, progress=args.progress)


def _spec_of(args: Args, folder: Path, start: str) -> str:
    """Return the spec of the model that a stage made out of ``start``; its adapter is added to those below."""
    mine = folder / "agent" / MODEL
    if not args.lora:
        return f"hf:{mine}"
    root, below = without_adapter(start)
    if below is None:
        return with_adapter(root, mine)
    whole = folder / "adapter"
    with _first_alone(args) as writes:
        if writes and not whole.exists():
            partial = folder / ".partial-adapter"
            checkpoint.remove_partial(folder)
            sum_adapters(partial, [(below, 1.0), (mine, 1.0)])
            checkpoint.flush_tree(partial)
            partial.rename(whole)
    return with_adapter(root, whole)


def _finish(args: Args, wanted: Sequence[Chain], last: LMPolicy) -> SACPO:
    """Write the policy of the last chain, what it was made by, and where the others are."""
    out = Path(args.out)
    settings = replace(args, lm=str(last.base["spec"]))
    policy = SACPO(settings, last.network, last.lm.tokenizer, last.tokens, last.base)
    policy.more = {"stages": [asdict(stage) for stage in wanted[-1]]}
    found = [str(folder_of(args.out, chain).relative_to(out)) for chain in wanted]
    with _first_alone(args) as mine:
        if mine:
            policy.save(out / "agent")
            checkpoint.write_json(out / "config.json", config_of("sacpo", args, apart_from=NO_EFFECT))
            checkpoint.write_json(out / "result.json", {"chains": found})
    log.info("%s: %s", out, ", ".join(found))
    return policy


if __name__ == "__main__":
    main("sacpo")
