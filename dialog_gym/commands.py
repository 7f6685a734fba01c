"""The commands of ``dialog-gym``. Each is a function whose arguments are its flags; heavy imports are inside."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import gymnasium as gym
import rich
import tyro
from gymnasium.envs.registration import EnvSpec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dialog_gym import checkpoint
from dialog_gym.authoring.modules import user_module
from dialog_gym.errors import unknown
from dialog_gym.judging import Judged, judge_episodes, verdict_json
from dialog_gym.render import visible
from dialog_gym.rewards.judge import Judge
from dialog_gym.rollout import Evaluation

if TYPE_CHECKING:
    from dialog_gym.baselines import Trial
    from dialog_gym.distributed.cluster import Cluster

Settings = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")]
AgentName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AGENT")]
EnvName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
PolicyName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|POLICY")]


class Elsewhere(NamedTuple):
    """A command whose module parses its words itself, and is imported only when the command is called."""

    words: str
    """What calls it."""
    module: str
    """Module of this package whose ``run`` is called."""
    read_from: int
    """Number of the first word that ``run`` is given."""
    summary: str

    def run(self, words: Sequence[str]) -> None:
        """Run the command, all of whose words are ``words``."""
        import_module(f"dialog_gym.{self.module}").run(list(words[self.read_from :]))

    def entry(self) -> Callable[[], None]:
        """Return what lists the command in ``dialog-gym --help``."""

        def command() -> None:
            self.run(self.words.split())

        command.__doc__ = self.summary
        return command


ELSEWHERE = (
    Elsewhere("data read", "data.corpora.commands", 1, "Read a published corpus, or your own chats."),
    Elsewhere("data corpora", "data.corpora.commands", 1, "List the formats of corpora that can be read."),
    Elsewhere("data make-candor", "data.corpora.commands", 1, "Write conversations of our own in CANDOR's layout."),
    Elsewhere("data society", "data.society_command", 2, "Make training data of societies, for stable_alignment."),
    Elsewhere("fit speaker", "lm.speaker_command", 2, "Train a small language model on a corpus."),
    Elsewhere("fit reward", "rewards.decomposition.command", 2, "Learn a reward from one score per conversation."),
    Elsewhere("merge", "lm.merge_command", 0, "Average the weights of runs or language models."),
    Elsewhere("choose", "lm.merge_command", 0, "Name the run that earns most within a budget of cost."),
    Elsewhere("tournament", "tournament.command", 1, "Compare the answers of policies by a judge, and rate them."),
    Elsewhere("report", "report.command", 1, "Write one HTML page of results and dialogues."),
    Elsewhere("leaderboard", "benchmarks.leaderboard_command", 1, "Rank the agents of a benchmark, with intervals."),
    Elsewhere("society", "envs.society_command", 1, "Play and draw societies of agents that teach each other."),
    Elsewhere("bench", "benchmarks.bench_command", 1, "Benchmark agents on worlds, by a suite, and show the table."),
)


def run(words: Sequence[str]) -> None:
    """Run the command that ``words`` are."""
    from dialog_gym.authoring.commands import check, new, partner_report
    from dialog_gym.benchmarks.study_command import run as run_study
    from dialog_gym.benchmarks.study_command import study
    from dialog_gym.data.commands import branch, collect, data
    from dialog_gym.scoring import score

    words = list(words)
    rich.reconfigure(stderr=True)  # where progress bars go by default, so that --json prints JSON alone
    if words[:1] == ["train"] and len(words) > 1 and not words[1].startswith("-"):
        return train_agent(words[1], words[2:])
    if words[:1] == ["study"] and len(words) > 1 and not words[1].startswith("-"):
        return run_study(words[1:])
    for command in ELSEWHERE:
        if words[: len(command.words.split())] == command.words.split():
            return command.run(words)
    commands: dict[str, Callable[..., None]] = {
        "envs": envs,
        "agents": agents,
        "play": play,
        "train": train,
        "evaluate": evaluate,
        "collect": collect,
        "branch": branch,
        "data": data,
        "fit": fit,
        "study": study,
        "quickstart": quickstart,
        "new": new,
        "check": check,
        "partner-report": partner_report,
        "score": score,
        **{command.words: command.entry() for command in ELSEWHERE},
    }
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="dialog-gym",
        description="Goal-directed dialogues as Gymnasium environments, and agents that learn to win them. "
        "`dialog-gym COMMAND --help` tells more; --debug shows where an error came from.",
        args=list(words),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return None


def envs(json: bool = False) -> None:
    """List the environments; with --json, the scripted policies of each too, for `evaluate` and `collect`.

    Args:
        json: Print JSON.
    """
    rows = [_env_row(spec) for spec in _dialogue_specs()]
    if json:
        rows = [{**row, "policies": _policy_names(row["environment"])} for row in rows]
    show_rows(rows, json)


def agents(json: bool = False) -> None:
    """List the agents.

    Args:
        json: Print JSON.
    """
    from dialog_gym.agent import agent_names, agent_spec

    show_rows([{"agent": name, "summary": agent_spec(name).summary} for name in agent_names()], json)


def play(
    env: EnvName,
    seed: int | None = None,
    partner: str | None = None,
    settings: Settings = (),
    json: bool = False,
) -> None:
    """Talk to the partner yourself and see the reward; /help tells more.

    Args:
        env: Environment, for instance Bargain-v0.
        partner: Language model to talk to instead, for instance tiny, hf:NAME or openai:MODEL@URL.
        seed: Names the dialogue; the same seed gives the same scenario and partner.
        settings: Argument of the environment, for instance side=seller.
        json: Print what was played as JSON at the end (the dialogue itself then goes to standard error).
    """
    from dialog_gym.baselines import reason
    from dialog_gym.play import play as play_dialogue

    env_id = text_id(env_name(env))
    try:
        made = gym.make(env_id, **with_models(parse_settings(settings), partner=partner))
    except TypeError as error:
        raise ValueError(f"{env_id} cannot be made with {' '.join(settings)}: {reason(error)}") from error
    console = Console(stderr=json, highlight=False)
    played = play_dialogue(made, console, lambda: _next_line(console), seed=seed)
    if json:
        print_json(played.to_json())


def train(agent: AgentName) -> None:
    """Train an agent: `dialog-gym train td3 --help` lists its settings.

    The same command started again goes on from the last checkpoint of its run folder. Beside the agent's
    own settings, --set KEY=VALUE gives the environment an argument, for instance --set side=seller. --lm SPEC
    names the language model that speaks (for instance hf:NAME or openai:MODEL@URL?prefix=NAME), and --partner SPEC
    the one that it talks to; they are arguments of the environment too, and so are --reward and --cost: a name
    (Success) or module:name. Of ppo, td3 and sb3, --reward is what they learn by; it moves no evaluation.
    --ray local (or the address of a Ray cluster) and --workers N let workers play the evaluations.

    Args:
        agent: The agent; `dialog-gym agents` lists them.
    """
    train_agent(agent, [])


def train_agent(name: str, words: Sequence[str]) -> None:
    """Train the agent ``name`` with the settings in ``words``."""
    from dialog_gym.agent import agent_spec, parse
    from dialog_gym.distributed.remote import remote_evaluation

    spec = agent_spec(name)
    own = {setting.name for setting in fields(spec.args)}
    cluster, words = _cluster_of(words)
    words = _with_env(words, [flag for flag in ("--lm", "--partner", "--reward", "--cost") if flag[2:] not in own])
    args = parse(spec.args, words, prog=f"dialog-gym train {name}")
    if cluster is None:
        spec.train(args)
        return
    with remote_evaluation(args, cluster) as evaluation:
        spec.train(args, evaluate=evaluation)


def _cluster_of(words: Sequence[str]) -> tuple[Cluster | None, list[str]]:
    """Take ``--ray``, ``--workers`` and ``--gpus`` out of ``words``."""
    from dialog_gym.distributed.cluster import Cluster

    taken, rest = {"--ray": "", "--workers": "0", "--gpus": "0"}, []
    queue = [part for word in words for part in _split_flag(word, tuple(taken))]
    while queue:
        word = queue.pop(0)
        if word in taken and queue:
            taken[word] = queue.pop(0)
        else:
            rest.append(word)
    return Cluster.of(taken["--ray"] or None, int(taken["--workers"]), float(taken["--gpus"])), rest


def evaluate(
    policy: PolicyName,
    env: str | None = None,
    episodes: int = 512,
    seed: int = 1_000_000,
    rows: int = 32,
    lm: str | None = None,
    partner: str | None = None,
    settings: Settings = (),
    speak: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = (),
    reward: str | None = None,
    cost: str | None = None,
    raw: bool = False,
    judge: str | None = None,
    rubric: str = "goal",
    out: Path | None = None,
    ray: str | None = None,
    workers: int = 0,
    gpus: float = 0.0,
    json: bool = False,
) -> None:
    """Score a trained agent or a baseline.

    The normalised score is 0 for the unsteered language model and 1 for the oracle on the same episodes; where there
    is no oracle, there is none.
    With --judge, a language model scores the dialogues besides; with ?cache=FILE in its spec, again for nothing.

    Args:
        policy: A run folder or a saved agent, or oracle, lm, lm-sampled, random, constant, or a scripted policy of
            the environment, for instance infers; `dialog-gym envs --json` lists them.
        env: Environment; a run knows its own.
        episodes: Number of dialogues.
        seed: Seed of the first; the others follow.
        rows: Dialogues in parallel; no influence on the result.
        lm: Language model that speaks; default: that of the run, else the one that was made in this world, else tiny.
        partner: Language model to talk to instead of the scripted partner; there is no normalised score then.
        settings: Argument of the environment, for instance side=seller; a run knows its own.
        speak: How a trained agent that is a language model speaks, for instance temperature=0; by default as its run
            says.
        reward: What is earned instead, by name: Success, or module:name of your own; the task's is still reported.
        cost: What is constrained instead, named likewise.
        raw: Leave out the normalised score, and the time it takes.
        judge: Language model that scores the dialogues too, for instance openai:MODEL@URL?cache=FILE.
        rubric: What it judges: goal, helpfulness, harmlessness or sotopia.
        out: File for the dialogues, as JSON lines.
        ray: Workers play: local (started on this machine, on loopback), or the address of a Ray cluster.
        workers: How many; 0: one for each CPU.
        gpus: GPUs of each worker.
        json: Print JSON.
    """
    from dialog_gym import baselines
    from dialog_gym.distributed.cluster import Cluster

    need_folder(policy)
    cluster = Cluster.of(ray, workers, gpus)
    folder = Path(policy)
    known = policy in baselines.POLICIES or not folder.is_dir()
    if env is None and known and policy not in baselines.POLICIES:
        raise unknown("policy or run folder", policy, baselines.POLICIES)
    told = {} if known else told_by_run(folder)
    env_id = env_name(env or told.get("env") or _no_env(policy))
    speaks = lm if _acts_by_vectors(env_id) else None  # in a text environment the policy speaks, not the environment
    own = {**told.get("env_kwargs", {}), **parse_settings(settings)}
    kwargs = with_models(own, lm=speaks, partner=partner, reward=reward, cost=cost)
    if _acts_by_vectors(told.get("env", env_id)) != _acts_by_vectors(env_id):
        raise ValueError(f"{policy} was trained in {told['env']}, whose actions are not those of {env_id}")
    if policy == "oracle" and kwargs.get("partner") is not None:
        raise ValueError("there is no oracle: the partner is a language model, whose mind nobody knows")
    trial = baselines.Trial(env_id, kwargs, episodes, seed, rows, lm or "", progress=True)
    if known:
        baselines.require(policy, trial)
        if speak:
            raise ValueError(f"--speak is for a trained agent, and {policy} is none")
    examiner = None if judge is None else Judge(judge, rubric)  # what is wrong with it is told before it takes time
    if out is not None:
        checkpoint.need_target("--out", out)
    result, no_scale = _evaluated(policy, trial, raw, cluster, parse_settings(speak))
    judged = None
    try:
        if out is not None:
            _write_episodes(out, result, None)
        if examiner is not None:
            judged = judge_episodes(examiner, result.episodes)
        if out is not None and judged is not None:
            _write_episodes(out, result, judged)
    finally:  # neither a full disk nor a judge that fails takes the result with it
        _show_evaluation(result, cost_json(result, trial), no_scale, judged, json)


def fit(
    what: tyro.conf.Positional[Literal["prefix"]],
    kind: Literal["pca", "clone", "steer"],
    lm: str = "tiny",
    out: Path | None = None,
    env: str = "dialog_gym/Bargain-v0",
    settings: Settings = (),
    chats: Path | None = None,
    corpus: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="FORMAT PATH")] = None,
    dialogues: int = 400,
    steps: int = 300,
    plain: bool = False,
    action_size: int = 16,
    prefix_tokens: int = 2,
    position: Literal["end", "start"] = "end",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Fit a prefix map to a language model.

    `dialog-gym fit speaker --help`: train a language model on a corpus; `dialog-gym fit reward --help`: learn a
    reward from scores of conversations. The report tells how much an action changes what is said.

    pca is computed from the embeddings. clone trains a map on the frozen model's own replies. steer tunes a
    copy of the model together with the map on what the dialogues say.

    Args:
        what: What to fit; speaker and reward have settings of their own: `dialog-gym fit reward --help`.
        kind: Kind of map.
        lm: Language model: tiny, tiny-bargain, hf:NAME_OR_PATH or a folder.
        out: Folder for map and report, default runs/prefix-KIND.
        env: Environment whose self-play the map learns from.
        settings: Argument of the environment, for instance side=seller.
        chats: File to learn from instead: JSON lines with messages.
        corpus: Format of a published corpus to learn from instead, and its file or folder.
        dialogues: Dialogues of self-play or of the corpus.
        steps: Updates.
        plain: Clone as published, without codes learned from replies.
        action_size: Numbers in an action.
        prefix_tokens: Embeddings in a prefix.
        position: Right before the reply, or at the start of the prompt.
        seed: All randomness.
        json: Print JSON.
    """
    from dialog_gym import fit as fitting

    options = fitting.Options(
        kind=kind,
        lm=lm,
        out=out or Path(f"runs/{what}-{kind}"),
        env=text_id(env_name(env)).rpartition(":")[2],
        env_kwargs=parse_settings(settings),
        chats=chats,
        corpus=corpus,
        dialogues=dialogues,
        steps=steps,
        informed=not plain,
        action_size=action_size,
        prefix_tokens=prefix_tokens,
        position=position,
        seed=seed,
    )
    report = fitting.fit(options)
    if json:
        print_json(report)
    else:
        show_rows([fitting.row(report)], False)
        use = " ".join(f"--set {name}={value}" for name, value in report["use"].items())
        Console(highlight=False).print(f"The whole report is {options.out}/report.json. Use the map with: {use}")


def quickstart(
    out: Path = Path("runs/quickstart"),
    steps: int = 30_000,
    episodes: int = 512,
    seed: int = 1,
    scenarios: Path | None = None,
    settings: Settings = (),
    json: bool = False,
) -> None:
    """Train a planner, compare it with its baselines, show a dialogue before and after.

    Args:
        out: Folder for everything; the same command goes on where it was stopped.
        steps: Environment steps of training.
        episodes: Held-out dialogues per policy.
        seed: Seed of training.
        scenarios: File of real listings in CraigslistBargain's format instead of generated items.
        settings: Argument of the environment, for instance side=seller.
        json: Print the result as JSON (what is told on the way goes to standard error).
    """
    from dialog_gym import quickstart as road

    kwargs = parse_settings(settings)
    if scenarios is not None:
        kwargs["scenarios"] = str(scenarios)
    console = Console(stderr=json, highlight=False)
    report = road.quickstart(road.Settings(out, steps, episodes, seed, kwargs), console)
    if json:
        print_json(report)


def env_name(name: str) -> str:
    """Return the id that ``name`` stands for: an id, ``module:id``, or one of ours without ``dialog_gym/``.

    Of ``module:id`` the module is imported, also from the present folder; it registers the environment.

    Raises:
        KeyError: There is none; the message names the nearest.
        ValueError: There is no such module.
    """
    module, _, env_id = name.rpartition(":")
    if module:
        user_module(module)
        if env_id not in gym.registry:
            raise unknown("environment", env_id, [spec.id for spec in _dialogue_specs()])
    if env_id in gym.registry:
        return name
    ours = f"dialog_gym/{name}"
    if ours in gym.registry:
        return ours
    raise unknown("environment", name, [spec.id for spec in _dialogue_specs()])


def text_ids() -> list[str]:
    """Return the names of our environments that are played in words, without ``dialog_gym/``."""
    ids = [spec.id for spec in _dialogue_specs()]
    return [name.removeprefix("dialog_gym/") for name in ids if "Prefix-v" not in name]


def text_id(env_id: str) -> str:
    """Return the id of the same game played in words: that of ``Name-v0`` for ``NamePrefix-v0``."""
    text = env_id.replace("Prefix-v", "-v")
    return text if text.rpartition(":")[2] in gym.registry else env_id


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``["side=seller", "max_turns=4"]`` as arguments; what is no JSON is text.

    Raises:
        ValueError: A setting has no ``=``.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise ValueError(f"a setting looks like KEY=VALUE, for instance side=seller, got {setting!r:.80}")
        try:
            parsed[name] = json_module.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed


def score_row(result: Evaluation) -> dict[str, Any]:
    """Return what a table shows of an evaluation."""
    low, high = result.interval
    return {
        "policy": result.policy,
        "episodes": len(result.episodes),
        "return": f"{result.mean:.3f}",
        "95% interval": f"{low:.3f} .. {high:.3f}",
        "normalised": "" if result.normalised is None else f"{result.normalised:.2f}",
        "success": f"{result.success_rate:.0%}",
        "turns": f"{result.turns:.1f}",
    }


def _show_evaluation(
    result: Evaluation, costs: Mapping[str, float | None], no_scale: str, judged: Judged | None, as_json: bool
) -> None:
    if as_json:
        judge_told = {} if judged is None else {"judge": judged.to_json()}
        return print_json({**_told(result, costs), **judge_told})
    told_of_costs = {name: "none" if value is None else f"{value:.3f}" for name, value in costs.items()}
    show_rows([{**score_row(result), **told_of_costs}], False)
    if no_scale:
        Console(highlight=False).print(f"There is no normalised score: {no_scale}.", markup=False)
    if judged is not None:
        show_rows(judged.rows(), False)
        Console(highlight=False, soft_wrap=True).print(judged.spent())
    return None


def _told(result: Evaluation, costs: Mapping[str, float | None]) -> dict[str, Any]:
    found = {**result.to_json(), **costs}
    return found if costs else {name: value for name, value in found.items() if name not in ("cost", "costs")}


def cost_json(result: Evaluation, trial: Trial) -> dict[str, float | None]:
    """Return the mean cost of an episode and the budget, None where there is none; nothing where nothing costs."""
    from dialog_gym.baselines import text_rows

    task = text_rows(trial.venv).task
    return {} if task.cost is None else {"cost": result.cost, "budget": task.budget}


def need_folder(policy: str) -> None:
    """Refuse a policy that looks like a path where no folder is.

    Raises:
        ValueError: It does.
    """
    if len(Path(policy).parts) > 1 and not Path(policy).is_dir():
        found = "it is a file" if Path(policy).exists() else "there is no such folder"
        raise ValueError(f"{policy!r} looks like the folder of a run or of a saved agent, but {found}")


def _evaluated(
    policy: str, trial: Trial, raw: bool, cluster: Cluster | None, speak: Mapping[str, Any]
) -> tuple[Evaluation, str]:
    """Return what ``policy`` (the name of one, or a folder) earns, and why there is no normalised score.

    Everybody plays once, also who is the 0 or the 1 of that score. An agent has the settings ``speak``.
    """
    from dialog_gym import baselines
    from dialog_gym.agent import load_agent
    from dialog_gym.distributed.remote import RemoteTrial

    agent = Path(policy) if policy not in baselines.POLICIES and Path(policy).is_dir() else None
    with ExitStack() as stack:
        if cluster is None:
            score = _here(trial, agent, speak)
        else:
            if agent is not None and speak:
                load_agent(agent).set(**speak)  # what is wrong with them is told before anybody plays
            score = stack.enter_context(RemoteTrial(trial, cluster, agent, speak)).score
        scale: dict[str, Evaluation] = {}
        no_scale = ""
        try:
            for name in () if raw else ("oracle", "lm"):  # in this order: where there is no oracle, nobody has played
                scale[name] = score(name)
        except NotImplementedError as error:
            no_scale = str(error)
        result = scale.get(policy) or score(None if agent else policy)
    return baselines.on_scale([result, *scale.values()])[0], no_scale


def _here(trial: Trial, agent: Path | None, speak: Mapping[str, Any]) -> Callable[[str | None], Evaluation]:
    """Return what plays a baseline, or ``agent`` for None, in this process."""
    from dialog_gym import baselines
    from dialog_gym.agent import load_agent

    loaded = None if agent is None else load_agent(agent).set(**speak)

    def score(name: str | None) -> Evaluation:
        if name is not None:
            return baselines.evaluate(name, trial)
        assert loaded is not None, "who has no name is an agent in a folder"
        return trial.score(loaded.act, loaded.name)

    return score


def _write_episodes(out: Path, result: Evaluation, judged: Judged | None) -> None:
    verdicts = [{}] * len(result.episodes) if judged is None else [{"judge": verdict_json(v)} for v in judged.verdicts]
    lines = [{**episode.to_json(), **more} for episode, more in zip(result.episodes, verdicts, strict=True)]
    checkpoint.write_text(out, "".join(json_module.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def with_models(kwargs: dict[str, Any], **models: str | None) -> dict[str, Any]:
    """Return arguments of an environment with those models, rewards and costs that are named."""
    return {**kwargs, **{name: spec for name, spec in models.items() if spec is not None}}


def _with_env(words: Sequence[str], models: Sequence[str] = ()) -> list[str]:
    """Write out the id after ``--env``, and gather ``--set KEY=VALUE`` and ``models`` in ``--env-kwargs``."""
    rest, settings, given, named = [], [], "{}", {}
    flags = ("--env", "--env-kwargs", "--set", *models)
    queue = [part for word in words for part in _split_flag(word, flags)]
    while queue:
        word = queue.pop(0)
        if word in flags and queue:
            value = queue.pop(0)
            if word == "--env":
                rest += [word, env_name(value) if value else value]
            elif word == "--set":
                settings.append(value)
            elif word == "--env-kwargs":
                given = value
            else:
                named[word.removeprefix("--")] = value
        else:
            rest.append(word)
    kwargs = {**_json_object(given), **parse_settings(settings), **named}
    return [*rest, "--env-kwargs", json_module.dumps(kwargs)] if kwargs else rest


def _json_object(text: str) -> dict[str, Any]:
    try:
        return dict(json_module.loads(text))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'--env-kwargs takes a JSON object such as \'{{"side": "seller"}}\', got {text!r:.80}'
        ) from error


def _split_flag(word: str, flags: Sequence[str]) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if equals and name in flags else [word]


def told_by_run(folder: Path) -> dict[str, Any]:
    """Return the settings a run was started with, nothing for an agent saved elsewhere."""
    config = folder / "config.json"
    if not config.exists():
        return {}
    settings: dict[str, Any] = json_module.loads(config.read_text(encoding="utf-8")).get("args", {})
    return settings


def _no_env(policy: str) -> str:
    raise ValueError(f"where should {policy!r} be evaluated? Add --env, for instance --env BargainPrefix-v0")


def _dialogue_specs() -> list[EnvSpec]:
    return [spec for spec in gym.registry.values() if "task" in spec.kwargs]


def _acts_by_vectors(env_id: str) -> bool:
    return text_id(env_id) != env_id


def _env_row(spec: EnvSpec) -> dict[str, Any]:
    task = str(spec.kwargs["task"])
    first_line = (import_module(task.partition(":")[0]).__doc__ or "").partition("\n")[0]
    return {
        "environment": spec.id,
        "actions": "vectors" if _acts_by_vectors(spec.id) else "text",
        "summary": first_line.partition(": ")[2],
    }


def _policy_names(env_id: str) -> list[str]:
    """Return the scripted policies of a world, which need no agent; none where arguments are needed to make it."""
    from dialog_gym.env import env_task
    from dialog_gym.world import World

    try:
        task = env_task(env_id)
    except TypeError:
        return []
    return sorted(task.policies()) if isinstance(task, World) else []


def _next_line(console: Console) -> str | None:
    try:
        line = input()
    except EOFError:
        return None
    if not sys.stdin.isatty():
        console.print(Text(visible(line)))
    return line


def show_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print ``rows`` as a table, or as JSON."""
    if as_json:
        return print_json(list(rows))
    table = Table(*rows[0], box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(highlight=False).print(table)
    return None


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    sys.stdout.write(json_module.dumps(value, ensure_ascii=False, indent=2) + "\n")
