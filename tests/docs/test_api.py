"""The pages of the Python API: what they name exists, and nothing that packages export is left out."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe", reason="mkdocstrings is not installed: pip install 'dialog-gym[docs]'")

DOCS = Path(__file__).parents[2] / "docs"
NAMED = sorted(
    name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
)
ELSEWHERE = {
    "DialogueOverError",  # errors stand where they are raised
    "LanguageModelError",
    "DatasetError",
    "register_envs",  # called by the import
    "EMBEDDED",
    "Messages",
}


@pytest.fixture(scope="module")
def docstrings():
    sys.path.insert(0, str(DOCS))
    yield import_module("docstrings")
    sys.path.remove(str(DOCS))


@pytest.mark.parametrize("name", NAMED)
def test_what_a_page_names_can_be_imported(name):
    module, _, member = name.rpartition(".")
    if module == "dialog_gym.neighbours.verifiers":
        pytest.importorskip("verifiers", reason="needs an older openai: an environment of its own")
    assert (getattr(import_module(module), member).__doc__ or "").strip()


@pytest.mark.parametrize(
    "package", ["dialog_gym", "dialog_gym.rewards", "dialog_gym.wrappers", "dialog_gym.data", "dialog_gym.lm"]
)
def test_what_a_package_exports_is_on_a_page(package):
    members = set(import_module(package).__all__) - ELSEWHERE
    assert members
    assert {member for member in members if not any(name.endswith(f".{member}") for name in NAMED)} == set()


def test_examples_are_fenced_and_brackets_escaped(docstrings):
    assert docstrings.as_markdown("Rows ``x[0]`` of `y[1]` and z[2].") == "Rows ``x[0]`` of `y[1]` and z\\[2]."
    text = "Of code:\n\n    >>> [1]\n    [1]\n\nArgs:\n    a: In [0, 1]."
    fenced = "Of code:\n\n    ```pycon\n    >>> [1]\n    [1]\n    ```\n\nArgs:\n    a: In \\[0, 1]."
    assert docstrings.as_markdown(text) == fenced
