"""The pages of environments and agents, made from their cards when the site is built (a hook of MkDocs).

A card is the docstring of a module. Beside it stand what the code itself says: ids, spaces, settings with their
defaults and docs, scripted policies. Nothing is played or trained, and the same code gives the same pages.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from importlib import import_module
from typing import Any

import gymnasium as gym

import dialog_gym  # noqa: F401 - registers the environments
from dialog_gym.agent import AgentSpec, agent_names, agent_spec
from dialog_gym.benchmarks.docs_parse import task_forms
from dialog_gym.benchmarks.suites import suite_of
from dialog_gym.env import env_task
from dialog_gym.lm.spec import own_model
from dialog_gym.registration import TASKS
from dialog_gym.world import World

_LABEL = re.compile(r"^([A-Z][^.:`]{0,70}|[A-Z][^.:]{0,30}``[^`]*``):(?=\s|$)")
_ITEM = re.compile(r"^\s*([*-]|\d+\.) ")
_CODE = re.compile(r"(``.+?``)", re.DOTALL)


def pages() -> dict[str, str]:
    """Return the Markdown of every generated page, by its path in the site."""
    found = {"environments/index.md": _environments(), "agents/index.md": _agents()}
    for name in TASKS:
        found[f"environments/{name.lower()}.md"] = environment_page(name)
    for name in agent_names():
        found[f"agents/{name}.md"] = agent_page(name)
    return found


def on_config(config: Any) -> Any:
    """Put the generated pages into the navigation (called by MkDocs)."""
    children = {
        "Environments": ["environments/index.md", *(f"environments/{name.lower()}.md" for name in TASKS)],
        "Agents": ["agents/index.md", *(f"agents/{name}.md" for name in agent_names())],
    }
    for entry in config.nav:
        for title in children.keys() & entry.keys():
            entry[title] = children[title]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (called by MkDocs)."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def environment_page(name: str) -> str:
    """Return the page of an environment.

    Args:
        name: Its name without namespace and version, one of ``TASKS``.
    """
    env_id = f"dialog_gym/{name}-v0"
    forms = task_forms(env_id)
    card = card_of(TASKS[name].partition(":")[0])
    rules = card.partition("\n")[2].lstrip()  # its first line is the summary
    parts = [f"# {name}-v0", _glance(name), "## Card", markdown(rules), "## Settings", _settings(name, forms[0])]
    parts += ["## Scripted policies", _policies(env_id)]
    for form in forms[1:]:
        other = card_of(form.__module__)
        parts += [f"## {form.__name__}", markdown(other), f"Settings of `{form.__name__}`:", _settings(name, form)]
    return _joined(parts)


def agent_page(name: str) -> str:
    """Return the page of an agent.

    Args:
        name: What the command line calls it.
    """
    spec = agent_spec(name)
    acts = "vectors, in every `NamePrefix-v0`" if _by_vectors(name) else "text, in every `Name-v0`"
    command = f"`dialog-gym train {name} --help`, or `python -m {spec.entry_point.partition(':')[0]} --help`"
    glance = f"{_sentence(spec.summary)}\n\n| what | here |\n|---|---|\n| acts by | {acts} |\n| command | {command} |"
    return _joined([f"# {name}", glance, "## Card", markdown(card_of(spec.cls.__module__)), *_all_settings(spec)])


def _by_vectors(name: str) -> bool:
    return "Prefix-v0" in str(fields_by_name(agent_spec(name).args)["env"].default)


def card_of(module: str) -> str:
    """Return the docstring of a module."""
    return inspect.cleandoc(import_module(module).__doc__ or "")


def markdown(card: str) -> str:
    """Return a card as Markdown: labels in bold and in paragraphs of their own, code in single back-quotes.

    Args:
        card: A docstring, cleaned.
    """
    lines: list[str] = []
    for number, line in enumerate(card.splitlines()):
        before = lines[-1] if lines else ""
        labelled = (not before or before.endswith((".", ":", ")"))) and _LABEL.match(line) if number else None
        starts_list = _ITEM.match(line) and before and not _ITEM.match(before) and not before.startswith("  ")
        if before and (labelled or starts_list):
            lines.append("")
        lines.append(_LABEL.sub(r"**\1:**", line) if labelled else line)
    return _inline("\n".join(lines))


def _inline(text: str) -> str:
    parts = _CODE.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = parts[i].replace("<", "&lt;")
        parts[i] = re.sub(
            r"(?<=[\w)]) (\*\*?) (?=[\w(])", lambda found: f" {found[1].replace('*', chr(92) + '*')} ", parts[i]
        )
    return "".join(part.replace("``", "`") if i % 2 else part for i, part in enumerate(parts))


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _glance(name: str) -> str:
    """Return a table of ids, spaces and ends, and for vectors what the model of the package gives."""
    env = gym.make(f"dialog_gym/{name}-v0")
    task = env.unwrapped.task  # type: ignore[attr-defined]  # a DialogueEnv
    steered = gym.make(f"dialog_gym/{name}Prefix-v0")
    state, action = steered.observation_space.shape or (), steered.action_space.shape or ()
    model = own_model(task)
    rows = {
        "ids": f"`dialog_gym/{name}-v0` (text), `dialog_gym/{name}Prefix-v0` (vectors)",
        "the agent, the partner": " and ".join(f"`{role}`" for role in task.roles),
        "text form": f"observation: the transcript; action: an utterance of at most {task.max_chars:,} characters",
        "vector form": f"observation: {state[0]} numbers; action: {action[0]} numbers in [-1, 1]",
        "model that speaks there": f"`{model}`, unless `lm=` names another; the sizes above are those with it",
        "turns": f"at most {task.max_turns} of the agent",
        "cost": "none" if task.cost is None else f"`{task.cost.name}`, budget {task.budget:g} an episode",
        "signals": ", ".join(f"`{signal}`" for signal in task.signals) or "none",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"{_sentence(_summary(name))}\n\n| what | here |\n|---|---|\n{table}"


def _summary(name: str) -> str:
    return card_of(TASKS[name].partition(":")[0]).partition("\n")[0].partition(": ")[2]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _settings(name: str, form: Callable[..., Any]) -> str:
    """Return a table of a task's own settings; for instance ``gym.make(ID, side="seller")``."""
    told = args_section(form)
    rows = []
    for key, one in inspect.signature(form).parameters.items():
        default = "required" if one.default is one.empty else f"`{_shown(one.default)}`"
        rows.append(f"| `{key}` | {default} | {_cell(told.get(key, ''))} |")
    more = "Every environment also takes `partner`, `judge` with `rubric`, `reward` and `cost`; the vector form `lm`, "
    more += "`prefix`, `state`, `observer`, `temperature` and `max_tokens`. [Models](../models.md) tells what they do."
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows]) + f"\n\n{more}"


def args_section(documented: Any) -> dict[str, str]:
    """Return what the section ``Args:`` of a docstring says, by name; of a class, or of its ``__init__``."""
    text = inspect.cleandoc(documented.__doc__ or "")
    if "Args:" not in text and inspect.isclass(documented):
        text = inspect.cleandoc(documented.__init__.__doc__ or "")
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", text, re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section[1]).splitlines() if section else []:
        if start := re.match(r"(\w+): (.*)", line):
            name, found[start[1]] = start[1], start[2]
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _policies(env_id: str) -> str:
    task = env_task(env_id)
    if not isinstance(task, World):
        return "None."
    names = ", ".join(f"`{name}`" for name in task.policies())
    module = type(task).__module__ if "_" not in type(task).__module__.rpartition(".")[2] else _main_module(env_id)
    return (
        f"{names}.\n\nEach is evaluated by its name, for instance `dialog-gym evaluate oracle --env "
        f"{env_id.removeprefix('dialog_gym/')}`, and collected from likewise. `python -m {module}` prints what all of "
        "them earn; the card has the figures that are on record."
    )


def _main_module(env_id: str) -> str:
    return str(gym.spec(env_id).kwargs["task"]).partition(":")[0]


def _all_settings(spec: AgentSpec) -> Iterator[str]:
    """Yield a table per class of settings, the agent's own first; a field stands where it was last defined."""
    yield "## Settings"
    known = fields_by_name(spec.args)
    told: set[str] = set()
    docs = field_docs(spec.args)
    for cls in spec.args.__mro__[:-1]:
        names = [name for name in inspect.get_annotations(cls) if name in known and name not in told]
        told.update(names)
        if names:
            yield f"### {_heading(cls, spec.args)}"
            rows = [f"| `--{n.replace('_', '-')}` | {_default(known[n])} | {_cell(docs.get(n, ''))} |" for n in names]
            yield "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def _heading(cls: type[Any], own: type[Any]) -> str:
    if cls is own:
        return "Of this agent"
    return _sentence(inspect.cleandoc(cls.__doc__ or cls.__name__).partition("\n")[0]).rstrip(".")


def fields_by_name(args: type[Any]) -> dict[str, Field[Any]]:
    """Return the fields of a dataclass."""
    return {field.name: field for field in fields(args)}


def field_docs(args: type[Any]) -> Mapping[str, str]:
    """Return the docstrings under the fields of a dataclass, those of its bases included."""
    found: dict[str, str] = {}
    for cls in reversed(args.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef), f"the source of a class defines one, got {body}"
        for node, after in zip(body.body, body.body[1:], strict=False):
            doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(doc, str):
                found[node.target.id] = " ".join(doc.split())
    return found


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        return f"`{_shown(field.default)}`"
    return "required" if field.default_factory is MISSING else f"`{_shown(field.default_factory())}`"


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def _environments() -> str:
    rows = [f"| [`{name}-v0`]({name.lower()}.md) | {_cell(_sentence(_summary(name)))} |" for name in TASKS]
    intro = (
        "Each page begins with what the code says (ids, spaces, models) and goes on with the card of the module: all "
        "rules of the world, its scripted policies and what they earn, the real data that it takes. `Name-v0` is "
        "played in words; `NamePrefix-v0` is the same game, played by vectors that steer a language model."
    )
    return _joined(["# Environments", intro, "\n".join(["| environment | the task |", "|---|---|", *rows])])


_LEARNS = {"episodes": "playing", "log": "recorded dialogues", "rankings": "rankings", "": "nothing"}


def _agents() -> str:
    learns = {row.made: _LEARNS[row.learns] for row in suite_of("core").rows.values() if row.kind == "agent"}
    table = ["| agent | what it is | acts by | learns from |", "|---|---|---|---|"]
    for name in agent_names():
        link, summary = f"[`{name}`]({name}.md)", _cell(_sentence(agent_spec(name).summary))
        acts = "vectors" if _by_vectors(name) else "text"
        table.append(f"| {link} | {summary} | {acts} | {learns.get(name, 'see its page')} |")
    choice = (
        "With an environment to play in, begin with `td3` (a frozen model, steered) or `ppo` (a model that learns). "
        "With dialogues that were scored, begin with `tf_top`. With rankings or pairs, begin with `dpo`, and where "
        "something must be avoided, with `sacpo`. Measure all of them against `rollouts`, which learns nothing. The "
        "README's table tells how they compare in our worlds, [Benchmarks](../benchmarks.md) how to do it in yours."
    )
    intro = (
        "Each page has the card of the agent's module: the paper, and every difference from it; then all settings "
        "with their defaults. A setting is a flag of `dialog-gym train NAME` and a field of `Args` in Python."
    )
    return _joined(["# Agents", choice, "\n".join(table), intro])
