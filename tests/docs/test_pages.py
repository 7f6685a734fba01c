"""What the pages of docs show works as it stands: blocks run, or are parsed where their title says what they need."""

import itertools
import re
import shutil
from pathlib import Path

import pytest

from dialog_gym.benchmarks.docs_blocks import read_blocks
from dialog_gym.benchmarks.docs_run import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_block_of_the_page(path, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    page, said = Page(tmp_path), ""
    for block in read_blocks(path, ROOT):
        if block.language == "text":
            assert said == block.text, f"{block.where}: the block before it prints\n{said}"
        said = page.run(block)


def test_blocks_are_python_commands_or_what_they_print():
    for path in PAGES:
        for block in read_blocks(path, ROOT):
            assert block.language in ("python", "bash", "text"), f"{block.where}: a language is expected"


def test_there_are_pages_and_blocks_that_run():
    blocks = [block for path in PAGES for block in read_blocks(path, ROOT)]
    assert len(PAGES) >= 15
    assert sum(block.language == "python" and not block.needs for block in blocks) >= 12
    assert sum(block.is_shell and not block.needs for block in blocks) >= 12


def test_no_line_is_a_list_that_markdown_does_not_see():
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in itertools.pairwise(lines):
            starts = (
                re.match(r"(- |\d+\. |\|)", line) and before.strip() and not re.match(r"(- |\d+\. |\||  )", before)
            )
            assert not starts, f"{path.name}: an empty line is missing before {line!r}"
