"""What the README shows works as it stands."""

import re
from pathlib import Path

import pytest

from dialog_gym.benchmarks.docs_blocks import commands_of, read_blocks
from dialog_gym.benchmarks.docs_commands import BY_HAND, is_parsed_alone
from dialog_gym.benchmarks.docs_parse import check
from dialog_gym.benchmarks.docs_run import Page, inside, is_ours

README = Path(__file__).parents[1] / "README.md"
BLOCKS = read_blocks(README)


def test_python_blocks_run_in_order(tmp_path):
    page = Page(tmp_path)
    said = [page.run(block) for block in BLOCKS if block.language == "python"]
    assert len(said) >= 3
    assert "buyer: Hello! Would you take $80?" in "".join(said)
    assert "> buyer" in "".join(said)


def test_every_command_is_understood_by_the_parser_that_reads_it(tmp_path):
    commands = [one for block in BLOCKS if block.is_shell for one in commands_of(block)]
    assert len(commands) > 30
    for one in commands:
        if one.line.startswith(BY_HAND) and not is_ours(list(one.words)):
            continue
        with inside(tmp_path):
            try:
                check(one.words)
            except ValueError as error:
                if (
                    not is_parsed_alone(one.line) and "small_talk:" not in one.line
                ):  # which the command before it writes
                    pytest.fail(f"{one.block.where}: {error}")


def test_every_id_in_the_readme_is_registered():
    import gymnasium as gym

    import dialog_gym  # noqa: F401 - registers

    for name in set(re.findall(r"dialog_gym/\w+-v\d+", README.read_text())):
        gym.spec(name)
