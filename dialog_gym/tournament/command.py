"""``dialog-gym tournament``: answers, judgements and ratings in one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from dialog_gym import baselines
from dialog_gym.commands import Settings, env_name, need_folder, parse_settings, print_json, show_rows, text_id
from dialog_gym.tournament.answers import CRITERIA, Played, Prompted, Source, read_player
from dialog_gym.tournament.groups import looks
from dialog_gym.tournament.hold import Outcome, Plan, hold
from dialog_gym.tournament.judges import PairJudge, TruthJudge
from dialog_gym.tournament.matches import TournamentError
from dialog_gym.tournament.report import markdown, write

Players = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME=]PLAYER ...")]


@dataclass(frozen=True)
class Args:
    """Let policies answer the same questions, have a judge compare their answers, and rate them.

    The same command started again goes on where it was stopped: answers and judgements that are there are kept.
    """

    players: Players
    """Who answers: the folder of a run or an agent, a scripted policy or baseline, or the spec of a language model;
    with NAME= before it, under that name."""
    out: Path = Path("runs/tournament")
    """Folder of answers, judgements and the report."""
    base: str = ""
    """Player that the others are measured by; empty: the first."""
    env: str = ""
    """Environment whose dialogues are the questions, for instance Advice-v0."""
    settings: Settings = ()
    """Argument of the environment, for instance split=heldout."""
    episodes: int = 128
    """Dialogues of the environment."""
    first: int = baselines.HELD_OUT
    """Seed of the first dialogue; the others follow."""
    prompts: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="[CRITERION=]FILE")] = ()
    """Instead of an environment, a file of prompts; with CRITERION= before it, judged by that alone."""
    limit: int = 0
    """Most prompts of a file; 0: all."""
    max_tokens: int = 512
    """Longest answer to a prompt of a file."""
    lm: str = ""
    """Who the player lm is; default: the model that was made in this world, else tiny."""
    judge: str = "truth"
    """Who compares: truth (what the environment knows), or a language model."""
    criteria: tuple[str, ...] = CRITERIA
    """By what: names of rubrics (helpfulness, harmlessness, goal, ...); the truth knows helpfulness or return, and
    harmlessness or -cost."""
    scorings: int = 3
    """How often each order of each pair is judged; the truth without noise always says the same."""
    full: bool = False
    """Let everybody meet everybody, not the base alone."""
    noise: float = 0.0
    """Standard deviation of the noise on what the truth says."""
    temperature: float = 0.7
    """Of the judge."""
    form: Literal["json", "line"] = "json"
    """How the judge answers: one JSON object, or a first line with two numbers."""
    batch: int = 64
    """Matches that the judge is asked about at once."""
    retry: bool = False
    """Ask again where the judge failed before."""
    seed: int = 0
    """Of the judge's and the ratings' chance."""
    groups: Path | None = None
    """File of groups, labels and colours (JSON or YAML); by default players are grouped by their names."""
    json: bool = False
    """Print JSON."""


def run(words: Sequence[str]) -> None:
    """Hold the tournament that ``words`` (after ``tournament``) ask for, and print its tables."""
    args = tyro.cli(Args, args=list(words), prog="dialog-gym tournament", config=(tyro.conf.FlagCreatePairsOff,))
    plan = plan_of(args)
    shown = looks(plan.names, plan.base, args.groups)  # a file that is wrong is told before it takes time
    outcome = hold(plan)
    written = write(outcome, shown, args.out)
    if args.json:
        return print_json(outcome.to_json())
    show_rows(short_rows(outcome), False)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{markdown(outcome, shown).partition(chr(10))[0]}", markup=False)
    console.print(f"Written: {', '.join(map(str, written))}", markup=False)
    return None


def plan_of(args: Args) -> Plan:
    """Return what ``args`` ask for.

    Raises:
        TournamentError: There are no questions, or more than one kind; or players cannot meet.
        KeyError, ValueError: The environment, the judge or a rubric is not known.
    """
    players = tuple(map(read_player, args.players))
    for player in players:
        if ":" not in player.what:  # a path, and no spec of a model
            need_folder(player.what)
    return Plan(
        out=args.out,
        players=players,
        sources=tuple(sources_of(args)),
        judge=judge_of(args),
        base=args.base or (players[0].name if players else ""),
        full=args.full,
        scorings=args.scorings,
        batch=args.batch,
        retry=args.retry,
        seed=args.seed,
        progress=True,
    )


def sources_of(args: Args) -> list[Source]:
    """Return the questions."""
    if bool(args.env) == bool(args.prompts):
        raise TournamentError("name the questions: --env ENVIRONMENT, or --prompts FILE (not both)")
    if args.env:
        env, kwargs = text_id(env_name(args.env)), parse_settings(args.settings)
        return [Played(env, kwargs, args.episodes, args.first, lm=args.lm, criteria=args.criteria)]
    if args.judge == "truth":
        raise TournamentError("the truth about the prompts of a file is not known: --judge SPEC names a model")
    found: list[Source] = []
    for text in args.prompts:
        criterion, equals, path = text.partition("=")
        criteria = (criterion,) if equals else args.criteria
        found.append(Prompted(Path(path if equals else text), args.limit, args.max_tokens, criteria))
    return found


def judge_of(args: Args) -> PairJudge:
    """Return who judges."""
    if args.judge == "truth":
        return TruthJudge(args.noise, args.seed)
    from dialog_gym.tournament.model_judge import ModelJudge

    named = {text.partition("=")[0] for text in args.prompts if "=" in text}
    rubrics = {criterion: criterion for criterion in (*args.criteria, *sorted(named - set(args.criteria)))}
    return ModelJudge(args.judge, rubrics, temperature=args.temperature, form=args.form, seed=args.seed)


def short_rows(outcome: Outcome) -> list[dict[str, str]]:
    """Return what a terminal shows: win rate and Elo of each player by each criterion, and lengths."""
    by = {(line.criterion, line.player): line for line in outcome.lines}
    names = list(dict.fromkeys(line.player for line in outcome.lines))
    found = []
    for name in names:
        row = {"player": name}
        for criterion in outcome.questions:
            line = by[criterion, name]
            row[criterion] = f"{line.win_rate.mean:.3f}"
            row[f"{criterion} Elo"] = f"{line.elo.mean:.0f}"
        row["length"] = f"{line.length:.0f}"
        row["failed"] = str(sum(by[criterion, name].failed for criterion in outcome.questions))
        found.append(row)
    return found
