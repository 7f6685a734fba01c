"""How blocks are read, commands parsed, and a page run on a fresh clone."""

import os
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from dialog_gym.agent import agent_names
from dialog_gym.benchmarks.docs_blocks import blocks_of, commands_of, globbed
from dialog_gym.benchmarks.docs_commands import Place, Settings, is_parsed_alone, run_page
from dialog_gym.benchmarks.docs_parse import check, env_settings
from dialog_gym.benchmarks.docs_run import Page, quick_flags

PAGE = """\
# A page

```python
x = 1
print(x)
```

```text
1
```

```bash title="needs a GPU"
A=runs/a; B=$A/b     # two names
dialog-gym evaluate $B \\
    --env Bargain-v0   # goes on
```

```
dialog-gym envs
```

```
just words
```
"""


def test_blocks_and_their_commands():
    blocks = blocks_of(PAGE, "page.md")
    assert [block.language for block in blocks] == ["python", "text", "bash", "", ""]
    assert [block.is_shell for block in blocks] == [False, False, True, True, False]
    assert [block.where for block in blocks] == ["page.md:4", "page.md:9", "page.md:13", "page.md:19", "page.md:23"]
    assert [bool(block.needs) for block in blocks] == [False, False, True, False, False]
    (command,) = commands_of(blocks[2])
    assert command.words == ("dialog-gym", "evaluate", "runs/a/b", "--env", "Bargain-v0")
    assert command.line == "dialog-gym evaluate $B --env Bargain-v0"


@pytest.mark.parametrize("line", ["dialog-gym envs | head", "for x in a", "dialog-gym envs > file", "say 'what"])
def test_more_than_simple_commands_is_refused(line):
    (block,) = blocks_of(f"```bash\n{line}\n```\n", "page.md")
    with pytest.raises(ValueError, match=r"page.md:2: (simple commands are expected|no shell reads)"):
        commands_of(block)


def test_stars_are_files_of_the_folder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert globbed(["x", "runs/*", "none/*"], tmp_path) == ["x", "runs/a", "runs/b", "none/*"]


@pytest.mark.parametrize(
    "line",
    [
        "dialog-gym train td3 --env BargainPrefix-v0 --set side=seller --lm hf:NAME?dtype=bfloat16",
        "dialog-gym evaluate lm --env RedTeam-v0 --set behaviours=FILE --set classifier=hf:NAME",
        "dialog-gym bench core --jobs 2",
        "dialog-gym fit reward --episodes x --local faces --lambda 0.5",
        "python -m dialog_gym.agents.tf --env dialog_gym/Bargain-v0 --data x",
        "accelerate launch --num_processes 2 -m dialog_gym.agents.tf --data x",
        "python -m dialog_gym.benchmarks.planners --out x",
        "dialog-gym train td3 --help",
    ],
)
def test_what_is_understood(line):
    check(line.split())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("dialog-gym train td3 --env BargainPrefix-v0 --stepz 3", "--stepz"),
        ("dialog-gym train td4", "did you mean 'td3'"),
        ("dialog-gym evaluate lm --env Bargain-v1", "Bargain-v0"),
        ("dialog-gym evaluate lm --env Bargain-v0 --set sides=seller", "has no setting 'sides'"),
        ("dialog-gym evaluate lm --env Bargain-v0 --lm hf:NAME?dtyp=bfloat16", "did you mean 'dtype'"),
        ("dialog-gym collect Bargain-v0 lm --out x --partner gpt", "unknown language model 'gpt'"),
        ("dialog-gym bench core --job 2", "--job"),
        ("dialog-gym fit reward --methods geli", "--methods"),
        ("python -m dialog_gym.agents.tf --env Bargain-v0", "wants the whole id"),
        ("python -m dialog_gym.benchmarks.planners --outt x", "--out"),
        ("python -m json.tool", "only dialog-gym"),
    ],
)
def test_what_is_not(line, told):
    with pytest.raises(ValueError, match=told):
        check(line.split())


def test_settings_of_an_environment_that_stands_for_several():
    assert {"strength", "behaviours", "classifier", "partner"} <= set(env_settings("dialog_gym/RedTeam-v0"))
    assert {"prefix", "state"} <= set(env_settings("dialog_gym/BargainPrefix-v0"))
    assert "prefix" not in env_settings("dialog_gym/Bargain-v0")


def test_flags_that_make_a_command_short():
    assert quick_flags(["dialog-gym", "train", "tf_top", "--data", "x"])[-1] == "24"
    assert quick_flags(["dialog-gym", "train", "tf_top", "--help"]) == []
    assert quick_flags(["dialog-gym", "envs"]) == []


def test_a_page_of_errors(tmp_path):
    page = Page(tmp_path)
    bad, wrong, other = blocks_of(
        "```python\nx = 1 / 0\n```\n```bash\ndialog-gym evaluate lm --env Nowhere-v0\n```\n```bash\nrm -r x\n```\n",
        "p.md",
    )
    with pytest.raises(ZeroDivisionError):
        page.run(bad)
    with pytest.raises(ValueError, match=r"p.md:5: dialog-gym evaluate(.|\n)*no environment named 'Nowhere-v0'"):
        page.run(wrong)
    with pytest.raises(ValueError, match=r"p.md:8: only our own commands are run"):
        page.run(other)


def test_what_a_page_registers_is_forgotten(tmp_path):
    text = """```python title="mine.py"
from dialog_gym import agent, registration
agent.register("mine", "mine:Mine", "")
registration.register("my/Mine-v0", "mine:Mine")
```
"""
    agents, ids, modules = agent_names(), set(gym.registry), set(sys.modules)
    Page(tmp_path).run(blocks_of(text, "p.md")[0])
    assert (tmp_path / "mine.py").is_file()
    assert agent_names() == agents
    assert set(gym.registry) == ids
    assert "mine" not in set(sys.modules) - modules


def test_outcomes_on_a_clone(tmp_path):
    (tmp_path / ".docs-bin").mkdir()
    for name, called in (("python", ""), ("dialog-gym", "-m dialog_gym")):
        shim = tmp_path / ".docs-bin" / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {called} "$@"\n')
        shim.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path / '.docs-bin'}:{os.environ['PATH']}"}
    text = (
        "```python\ny = 2\n```\n```python\nassert y == 3\n```\n"
        "```bash\ndialog-gym data info nowhere\ndialog-gym play Bargain-v0\n"
        "dialog-gym evaluate lm --env Bargain-v0 --lm hf:NAME\n```\n"
        '```bash title="needs hours"\ndialog-gym bench core --job 2\n```\n'
    )
    rows = list(run_page(blocks_of(text, "p.md"), Place(tmp_path, tmp_path, environ, Settings(Path()))))
    assert [row.outcome for row in rows] == ["ok", "failed", "failed", "not run", "parsed", "failed"]
    assert "AssertionError" in rows[1].told
    assert "nowhere" in rows[2].told


def test_placeholders():
    assert is_parsed_alone("dialog-gym evaluate x --judge openai:MODEL@URL?cache=v.db")
    assert is_parsed_alone("dialog-gym train tf --lm hf:NAME")
    assert not is_parsed_alone("H=runs/H dialog-gym choose $H --env Advice-v0")
