"""Names, settings and command lines of agents."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytest

from dialog_gym import agent
from dialog_gym.agent import Agent, agent_names, agent_spec, args_from_json, load_agent, main, parse, register
from dialog_gym.checkpoint import CheckpointError, write


@dataclass(frozen=True)
class Args:
    sizes: tuple[int, ...] = (1, 2)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    fast: bool = True


@pytest.fixture
def registry(monkeypatch):
    agent_names()
    monkeypatch.setattr(agent, "_AGENTS", dict(agent._AGENTS))


def test_every_agent_says_what_it_is():
    for name in agent_names():
        spec = agent_spec(name)
        assert issubclass(spec.cls, Agent)
        assert spec.cls.name == name
        assert spec.summary
        assert callable(spec.train)
        assert asdict(spec.args())["env"].startswith("dialog_gym/")
        assert args_from_json(spec.args, json.loads(json.dumps(asdict(spec.args())))) == spec.args()


def test_listing_agents_imports_no_torch():
    code = "import sys, dialog_gym.agent as a; a.agent_names(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_names_are_checked(registry):
    with pytest.raises(KeyError, match="no agent named 'td4'; did you mean 'td3'"):
        agent_spec("td4")
    register("td3", "dialog_gym.agents.td3:TD3", "again")
    with pytest.raises(ValueError, match=r"'td3' is already registered as dialog_gym.agents.td3:TD3"):
        register("td3", "mine:TD3", "")
    with pytest.raises(ValueError, match="looks like 'module:Class', got 'mine'"):
        register("mine", "mine", "")


def test_a_folder_of_an_unknown_agent(tmp_path):
    write(tmp_path / "a", "td33", {"x": np.zeros(1)}, {})
    with pytest.raises(KeyError, match="no agent named 'td33'; did you mean 'td3'"):
        load_agent(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"no checkpoint: it has no checkpoint.json"):
        load_agent(tmp_path)


def test_settings_come_back_from_json():
    args = Args(sizes=(3,), env_kwargs={"a": [1]})
    assert args_from_json(Args, json.loads(json.dumps(asdict(args)))) == args
    with pytest.raises(KeyError, match="no setting named 'size'; did you mean 'sizes'"):
        args_from_json(Args, {"size": 3})


def test_the_command_line_takes_json():
    args = parse(Args, ["--sizes", "4", "5", "--env-kwargs", '{"lm": "tiny", "n": [1, 2]}', "--no-fast"])
    assert args == Args((4, 5), {"lm": "tiny", "n": [1, 2]}, False)


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_json_that_is_no_object_is_refused(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(Args, ["--env-kwargs", text])
    assert stop.value.code == 2
    assert "env-kwargs" in capsys.readouterr().err


def test_errors_of_the_command_are_sentences(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SystemExit, match=r"RunFolderError: .*holds 'thesis.tex'"):
        main("td3", ["--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="cannot read the data no/such/file"):
        main("td3", ["--out", str(tmp_path / "run"), "--buffer", "no/such/file", "--track", "none"])
