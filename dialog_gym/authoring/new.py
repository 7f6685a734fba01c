"""Write a new environment or reward, and its test, from a template that works.

The templates are modules of this package, tested and type-checked like all others; writing one is copying it with
other names.
"""

from __future__ import annotations

import importlib.util
import itertools
import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["env", "reward"]

TEMPLATES = Path(__file__).parent / "templates"
HOME = "dialog_gym.authoring.templates"
_EXAMPLE = {"env": "evening", "reward": "kindness"}  # the template of each kind
_FOLDERS = {"env": ("envs", "tests/envs"), "reward": ("dialog_gym/rewards", "tests/rewards")}  # in a checkout
_PACKAGES = {"env": "dialog_gym.envs", "reward": "dialog_gym.rewards"}


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: New files, and the file that lines were added to: the registration, or the names of the rewards.
        next: Commands to try.
    """

    files: tuple[Path, ...]
    next: tuple[str, ...]


def write_new(kind: Kind, name: str, folder: Path) -> Written:
    """Write ``name`` and its test into ``folder``, or, if that is a checkout of dialog_gym, where they belong there.

    Args:
        kind: Environment or reward.
        name: Name of the module, lower case with underscores; the class is called the same in CamelCase.
        folder: Where to; it must exist.

    Raises:
        ValueError: ``name`` is not such a name, or belongs to another module.
        FileExistsError: There is one already; nothing has been written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ValueError(f"a name is lower case with underscores, for instance small_talk, got {name!r}")
    checkout = is_checkout(folder)
    if checkout:
        code, tests = (folder / part for part in _FOLDERS[kind])
        module = f"{_PACKAGES[kind]}.{name}"
    else:
        code, tests, module = folder, folder, name
    files = {code / f"{name}.py": f"{_EXAMPLE[kind]}.py", tests / f"test_{name}.py": f"test_{_EXAMPLE[kind]}.py"}
    for file in files:
        if file.exists():
            raise FileExistsError(f"{file} exists already; nothing was written. Choose another name, or remove it")
    if not checkout and importlib.util.find_spec(name) is not None:
        raise ValueError(f"there is a module {name!r} already, which this one would hide; choose another name")
    for file, template in files.items():
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        file.write_text(_renamed(text, kind, name, module), encoding="utf-8")
    if checkout and kind == "env":
        _add_line(folder / "dialog_gym/registration.py", f'    "{class_name(name)}": "{module}:{class_name(name)}",')
        files[folder / "dialog_gym/registration.py"] = ""
    if checkout and kind == "reward":
        _export(folder / "dialog_gym/rewards/__init__.py", name)
        files[folder / "dialog_gym/rewards/__init__.py"] = ""
    test = f"pytest {(tests / f'test_{name}.py').relative_to(folder)}"
    return Written(tuple(files), (test, _second_command(kind, name, module)))


def is_checkout(folder: Path) -> bool:
    """Return whether ``folder`` is the root of a checkout of dialog_gym."""
    return (folder / "dialog_gym/registration.py").is_file() and (folder / "envs/__init__.py").is_file()


def class_name(name: str) -> str:
    """Return the class of a module.

    >>> class_name("small_talk")
    'SmallTalk'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def _renamed(text: str, kind: Kind, name: str, module: str) -> str:
    """Return a template with the names of the new module, its imports in order again."""
    example = _EXAMPLE[kind]
    text = text.replace(f"{HOME}.{example}", module).replace(f'"{example}"', f'"{name}"')
    text = re.sub(rf"\b{class_name(example)}\b", class_name(name), text)
    if module != name:  # in a checkout ids are ours, and registered by one line in dialog_gym/registration.py
        text = re.sub(r"\n\nregister\(.*\)\n$|from dialog_gym.registration .*\n", "", text)
        text = text.replace('"my/', '"dialog_gym/')
    return _sorted_imports(text, name if module == name else "dialog_gym")


def _sorted_imports(text: str, own: str) -> str:
    """Return ``text`` with its imports, one per line, in the usual order: library, third parties, ``own`` package."""
    lines = text.split("\n")
    places = [i for i, line in enumerate(lines) if re.match(r"(import|from) (?!__future__)", line)]
    first, last = places[0], places[-1]

    def group(line: str) -> int:
        package = line.split()[1].partition(".")[0]
        return 2 if package == own else 0 if package in sys.stdlib_module_names else 1

    def order(line: str) -> tuple[int, bool, str]:
        return group(line), line.startswith("from"), line.split()[1]

    imports = sorted((lines[i] for i in places), key=order)
    blocks = ["\n".join(block) for _, block in itertools.groupby(imports, group)]
    return "\n".join([*lines[:first], "\n\n".join(blocks), *lines[last + 1 :]])


def _add_line(registration: Path, line: str) -> None:
    """Add ``line`` to the table of tasks."""
    text = registration.read_text(encoding="utf-8")
    text, count = re.subn(r"^(TASKS\b.*\{\n(?: .*\n)*)\}", rf"\g<1>{line}\n}}", text, flags=re.MULTILINE)
    if not count:
        raise ValueError(f"expected a table `TASKS = {{...}}` in {registration}; add the line {line.strip()} by hand")
    registration.write_text(text, encoding="utf-8")


def _export(package: Path, name: str) -> None:
    """Add a reward to the names of its package: in each of its three lists, where it belongs by the alphabet."""
    text, kind = package.read_text(encoding="utf-8"), class_name(name)
    for form, line in (
        (r"    from dialog_gym\.rewards\..*", f"    from dialog_gym.rewards.{name} import {kind} as {kind}"),
        (r'    "\w+": "\w+",', f'    "{kind}": "{name}",'),
        (r'    "\w+",', f'    "{kind}",'),
    ):
        found = re.search(rf"(?:^{form}\n)+", text, flags=re.MULTILINE)
        if found is None:
            raise ValueError(f"expected lines such as {line.strip()} in {package}; add it by hand")
        lines = "".join(f"{one}\n" for one in sorted([*found[0].splitlines(), line]))
        text = text[: found.start()] + lines + text[found.end() :]
    package.write_text(text, encoding="utf-8")


def _second_command(kind: Kind, name: str, module: str) -> str:
    if kind == "reward":
        return f"dialog-gym check {module}:{class_name(name)}"
    return f"dialog-gym play {'' if module != name else f'{name}:my/'}{class_name(name)}-v0"
