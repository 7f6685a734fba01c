"""The command line: what it prints, and that every mistake is answered in one sentence."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dialog_gym import rollout
from dialog_gym.agents.ppo import PPO
from dialog_gym.agents.td3 import TD3, Args
from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.cli import main, sentence
from dialog_gym.commands import ELSEWHERE, _with_env, env_name, parse_settings, text_id
from dialog_gym.lm import WEIGHTS


def run(capsys, *words, stdin="", monkeypatch=None, status=None):
    """Return standard output and error of one command."""
    if monkeypatch is not None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    if status is None:
        main(words)
    else:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == status
    return capsys.readouterr()


@pytest.mark.parametrize("command", [[], ["envs"], ["agents"], ["play"], ["train"], ["evaluate"], ["quickstart"],
                                     ["new"], ["check"], ["partner-report"]])  # fmt: skip
def test_help(capsys, command):
    shown = run(capsys, *command, "--help", status=0).out
    assert shown.startswith("usage: dialog-gym")


def test_help_lists_every_command(capsys):
    shown = run(capsys, "--help", status=0).out
    for words in ["envs", "train", "study", "score", *(command.words for command in ELSEWHERE)]:
        assert f"• {words} " in shown


@pytest.mark.parametrize("command", ELSEWHERE, ids=lambda command: command.words)
def test_commands_of_other_modules_are_found_by_their_words(capsys, command):
    shown = run(capsys, *command.words.split(), "--help", status=0).out
    assert shown.startswith(f"usage: dialog-gym {command.words} ")


def test_envs_and_agents_as_table_and_as_json(capsys):
    assert "dialog_gym/Bargain-v0" in run(capsys, "envs").out
    listed = {row["environment"]: row for row in json.loads(run(capsys, "envs", "--json").out)}
    assert listed["dialog_gym/Bargain-v0"]["actions"] == "text"
    assert listed["dialog_gym/BargainPrefix-v0"]["actions"] == "vectors"
    assert listed["dialog_gym/Bargain-v0"]["summary"]
    assert {"oracle", "infers"} <= set(listed["dialog_gym/Bargain-v0"]["policies"])
    assert {"td3", "sb3"} <= {row["agent"] for row in json.loads(run(capsys, "agents", "--json").out)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("play Bargian-v0", "did you mean 'dialog_gym/Bargain-v0'?"),
        ("play Bargain-v0 --set side=both", "side must be 'buyer' or 'seller', got 'both'"),
        (
            "play Bargain-v0 --set colour=red",
            "cannot be made with colour=red: no setting named 'colour'; did you mean .* Known settings: .*'side'",
        ),
        ("play Bargain-v0 --set side", "looks like KEY=VALUE"),
        ("play Bargain-v0 --set scenarios=nowhere.json", "nowhere.json"),
        ("play CartPole-v1", "a person plays a text environment"),
        ("train td4", "no agent named 'td4'; did you mean 'td3'?"),
        ("train td3 --env BargainPerfix-v0", "did you mean 'dialog_gym/BargainPrefix-v0'?"),
        ("train td3 --env-kwargs {", "--env-kwargs takes a JSON object"),
        ("evaluate orcale --env Bargain-v0", "did you mean 'oracle'?"),
        ("evaluate oracle", "Add --env"),
        ("evaluate oracle --env CartPole-v1", "CartPole-v1 cannot be made"),
        ("evaluate oracle --env Bargain-v0 --set sdie=seller", "cannot be made with .*; did you mean 'side'"),
        ("train td3 --env BargainPrefix-v0 --set sdie=seller", "no setting named 'sdie'; did you mean 'side'"),
        ("train td3 --env RedTeamPrefix-v0 --set behaviors=x.csv", "did you mean 'behaviours'"),
        ("train td3 --env BargainPrefix-v0 --reward Sucess", "no reward named 'Sucess'; did you mean 'Success'"),
        ("evaluate oracle --env Bargain-v0 --set reward=1", "expected a reward, the name of one .*, got 1"),
        ("evaluate oracle --env Bargain-v0 --cost Similarity", "Similarity needs arguments"),
        ("collect Bargain-v0 runs/none --out x", "'runs/none' looks like the folder of a run"),
        ("choose", "expected runs to choose between, got none; for instance"),
        ("data society build --out x", "expected the folders of societies to read, got none"),
        ("branch Bargain-v0 --out x --reward no:thing", "there is no module 'no'"),
        ("evaluate oracle --env Bargain-v0 --episodes 0", "episodes must be at least 1, got 0"),
        (
            "evaluate infer --env Bargain-v0 --episodes 4",
            "did you mean 'infers'.*constant.*infers.*lm-sampled.*oracle",
        ),
        ("evaluate runs/nowhere", "'runs/nowhere' looks like the folder of a run .*, but there is no such folder"),
        ("evaluate oracle --env Bargain-v0 --partner tiny --episodes 2", "no oracle: the partner is a language model"),
        ("evaluate oracle --env Bargain-v0 --speak temperature=0", "--speak is for a trained agent, and oracle"),
        ("play Bargain-v0 --partner tinny", "did you mean 'tiny'?"),
        ("play Bargain-v0 --partner openai:gpt-x", "is named 'openai:MODEL@URL'"),
        ("train td3 --lm openai:x@http://127.0.0.1:9/v1 --env BargainPrefix-v0", "'prefix', which language model"),
    ],
)
def test_mistakes_are_told_in_one_sentence(capsys, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    seen = run(capsys, *words.split(), status=2)
    assert seen.err.count("\n") == 1
    assert seen.err.startswith("dialog-gym: ")
    assert "Traceback" not in seen.err
    assert re.search(told, seen.err)


def test_debug_shows_where_an_error_came_from():
    with pytest.raises(KeyError, match="did you mean 'td3'"):
        main(["train", "td4", "--debug"])


def test_wrong_flags_and_commands_exit_with_status_2(capsys):
    assert "envs" in run(capsys, "evns", status=2).err
    assert "--seed" in run(capsys, "play", "Bargain-v0", "--sead", "3", status=2).err


def test_a_missing_package_is_told_with_the_extra_that_has_it():
    error = ModuleNotFoundError("No module named 'matplotlib.figure'", name="matplotlib.figure")
    assert sentence(error) == "this needs the package 'matplotlib': pip install 'dialog-gym[report]'"


def test_evaluate_tells_what_it_cost_where_something_costs(capsys):
    words = ["evaluate", "oracle", "--episodes", "4", "--raw", "--env"]
    plain = json.loads(run(capsys, *words, "Bargain-v0", "--json").out)
    assert not {"cost", "budget"} & plain.keys()
    seen = json.loads(run(capsys, *words, "Advice-v0", "--json").out)
    assert seen["budget"] == pytest.approx(0.05)
    shown = run(capsys, *words, "Advice-v0").out
    assert re.search(rf" {seen['cost']:.3f} +0.050 *$", shown, re.MULTILINE)


def test_another_reward_and_a_cost_by_name(capsys, tmp_path):
    out = tmp_path / "said.jsonl"
    words = (
        f"evaluate oracle --env Bargain-v0 --episodes 4 --raw --json --reward Success --cost Repetition --out {out}"
    )
    seen = json.loads(run(capsys, *words.split()).out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert seen["returns"] == [float(line["success"]) for line in lines]
    assert seen["cost"] == pytest.approx(sum(sum(line["cost_terms"]["repetition"]) for line in lines) / 4)
    assert seen["budget"] is None
    assert all(set(line["terms"]) == {"deal", "success"} for line in lines)


def test_evaluate_prints_json_and_writes_dialogues(capsys, tmp_path):
    out = tmp_path / "said.jsonl"
    words = f"evaluate oracle --env Bargain-v0 --episodes 6 --rows 4 --raw --json --out {out}"
    printed = run(capsys, *words.split()).out
    seen = json.loads(printed)
    assert printed.startswith("{")  # progress bars go elsewhere
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert seen["policy"] == "oracle"
    assert seen["env"] == "dialog_gym/Bargain-v0"
    assert seen["normalised"] is None
    assert seen["returns"] == [line["return"] for line in lines]
    assert len(lines) == 6


def test_evaluate_makes_the_folder_of_out_before_anything_is_played(capsys, tmp_path, monkeypatch):
    words = ["evaluate", "oracle", "--env", "Bargain-v0", "--episodes", "2", "--raw", "--json", "--out"]
    out = tmp_path / "new" / "folder" / "said.jsonl"
    returns = json.loads(run(capsys, *words, str(out)).out)["returns"]
    assert [json.loads(line)["return"] for line in out.read_text(encoding="utf-8").split("\n")[:-1]] == returns
    assert [file.name for file in out.parent.iterdir()] == ["said.jsonl"]
    monkeypatch.setattr("dialog_gym.commands._evaluated", lambda *_: pytest.fail("dialogues were played"))
    told = run(capsys, *words, str(out / "below.jsonl"), status=2).err
    assert f"--out: {out} is a file, so nothing can be written below it" in told
    assert (
        f"--out: {out.parent} is a folder; give the name of a file in it"
        in run(capsys, *words, str(out.parent), status=2).err
    )


def test_a_disk_that_fills_up_takes_neither_the_result_nor_the_dialogues_of_before(capsys, tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "said.jsonl"
    out.write_text("of before\n")
    words = ["evaluate", "oracle", "--env", "Bargain-v0", "--episodes", "2", "--raw", "--json", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        seen = run(capsys, *words, status=2)
    assert len(json.loads(seen.out)["returns"]) == 2
    assert "No space left on device" in seen.err
    assert out.read_text() == "of before\n"


def test_evaluate_plays_the_scripted_policies_of_a_world(capsys):
    words = ["evaluate", "infers", "--episodes", "8", "--json"]
    text = json.loads(run(capsys, *words, "--env", "Bargain-v0", "--raw").out)
    vectors = json.loads(run(capsys, *words, "--env", "BargainPrefix-v0").out)
    assert text["policy"] == "infers"
    assert text["returns"] == vectors["returns"]  # it speaks itself, also where actions are vectors
    assert 0.5 < vectors["normalised"] < 1.2


@pytest.mark.parametrize("ray", [[], pytest.param(["--ray", "local", "--workers", "1"], marks=pytest.mark.slow)])
def test_a_trained_agent_speaks_with_other_settings(capsys, tmp_path, ray):
    PPO.build(PPO.args_class(env="dialog_gym/Bargain-v0", lm="tiny-bargain")).save(tmp_path)  # it draws its words
    words = ["evaluate", str(tmp_path), "--env", "Bargain-v0", "--episodes", "6", "--raw", "--json", *ray]
    greedy = json.loads(run(capsys, *words, "--speak", "temperature=0").out)["returns"]
    assert greedy == json.loads(run(capsys, *words, "--speak", "temperature=0", "--speak", "top_p=0.5").out)["returns"]
    assert greedy != json.loads(run(capsys, *words).out)["returns"]
    alone = ["evaluate", "lm", "--lm", "tiny-bargain", *words[2:]]
    assert greedy == json.loads(run(capsys, *alone).out)["returns"], "untrained, it is the model"
    assert "did you mean 'temperature'" in run(capsys, *words, "--speak", "temprature=0", status=2).err


@pytest.mark.parametrize("ray", [[], ["--ray", "127.0.0.1:9"]])
def test_an_agent_that_does_not_speak_has_no_settings_of_speaking(capsys, tmp_path, ray):
    TD3(2, 2, Args(hidden=(4,), critic_hidden=(4,))).save(tmp_path)
    words = ["evaluate", str(tmp_path), "--env", "BargainPrefix-v0", "--speak", "temperature=0", *ray]
    assert "td3 has no settings of speaking, got temperature" in run(capsys, *words, status=2).err


def test_evaluate_does_not_depend_on_rows(capsys):
    words = ["evaluate", "oracle", "--env", "Bargain-v0", "--episodes", "7", "--raw", "--json", "--rows"]
    assert run(capsys, *words, "1").out == run(capsys, *words, "5").out


def test_evaluate_without_an_oracle_shows_the_raw_mean_and_says_why(capsys, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text("How do I boil an egg?\nWhat is tea?\n")
    words = ["evaluate", "lm", "--env", "Advice-v0", "--episodes", "2", "--set", f"questions={file}"]
    words += ["--set", "reward=dialog_gym.rewards:Repetition"]
    table, told = run(capsys, *words).out.split("There is no normalised score: ")
    assert " ".join(told.split()).startswith("the truth about the questions of a file is not known")
    assert table.splitlines()[1].split()[:2] == ["lm", "2"]
    found = json.loads(run(capsys, *words, "--json").out)
    assert found["normalised"] is None
    assert len(found["returns"]) == 2
    told = run(capsys, *["evaluate", "infers", "--env", "Bargain-v0", "--episodes", "2", "--partner", "tiny"]).out
    assert "language model 'tiny', whose mind nobody knows." in " ".join(told.split())


def test_play_from_a_pipe(capsys, monkeypatch):
    said = "/help\n/hint\n/goal\nhello, would you take $50?\n//slash\n\n/quit\n"
    shown = run(capsys, "play", "Bargain-v0", "--seed", "3", stdin=said, monkeypatch=monkeypatch).out
    assert "You are the buyer, talking to the seller" in shown
    assert "the oracle would say" in shown
    assert "hello, would you take $50?" in shown
    assert "turn 3 of 8" in shown
    assert "you left after 3 turns" in shown


def test_play_json_holds_the_dialogue_and_nothing_else_is_on_standard_output(capsys, monkeypatch):
    words = ["play", "BargainPrefix-v0", "--seed", "3", "--json", "--set", "side=seller"]
    seen = run(capsys, *words, stdin="I offer $120 please\n", monkeypatch=monkeypatch)
    played = json.loads(seen.out)
    assert played["dialogue"]["roles"] == ["seller", "buyer"]
    assert len(played["rewards"]) == 1
    assert 0 < played["oracle_return"] <= 1
    assert "You are the seller" in seen.err


def test_play_survives_what_people_paste(capsys, monkeypatch):
    said = "x" * 100_000 + "\n\x1b[2J\x07 \ud800 ünï 🙂\n/nonsense\n"
    seen = run(capsys, "play", "Bargain-v0", "--seed", "1", stdin=said, monkeypatch=monkeypatch)
    assert "shorten it" in seen.out
    assert "\x1b" not in seen.out
    assert "no command '/nonsense'" in seen.out


def test_play_reads_bytes_that_are_no_text(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 \xff\n"), encoding="utf-8"))
    assert "caf\ufffd \ufffd" in run(capsys, "play", "Bargain-v0").out


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m dialog_gym envs | true"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_cleanly():
    command = [sys.executable, "-m", "dialog_gym", "play", "Bargain-v0"]
    pipe, env = subprocess.PIPE, {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith("buyer > "):
            shown += process.stdout.read(1)
        time.sleep(0.2)  # until it waits for the line
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told == "dialog-gym: stopped\n"


def test_names_of_environments():
    assert env_name("Bargain-v0") == env_name("dialog_gym/Bargain-v0") == "dialog_gym/Bargain-v0"
    assert env_name("CartPole-v1") == "CartPole-v1"
    assert text_id("dialog_gym/BargainPrefix-v0") == text_id("dialog_gym/Bargain-v0") == "dialog_gym/Bargain-v0"


def test_settings_are_json_or_else_text():
    given = ["side=seller", "max_turns=4", 'scenarios="4"', "split=a=b", "flag=true", "none=null"]
    read = {"side": "seller", "max_turns": 4, "scenarios": "4", "split": "a=b", "flag": True, "none": None}
    assert parse_settings(given) == read


def test_train_gathers_settings_of_the_environment():
    words = ["--env", "BargainPrefix-v0", "--set=side=seller", "--steps", "9", "--env-kwargs", '{"split": "train"}']
    rest = _with_env(words)
    assert rest[:4] == ["--env", "dialog_gym/BargainPrefix-v0", "--steps", "9"]
    assert rest[4] == "--env-kwargs"
    assert json.loads(rest[5]) == {"split": "train", "side": "seller"}
    assert _with_env(["--help"]) == ["--help"]
    assert _with_env(["--env", ""]) == ["--env", ""], "some agents learn without one"


@pytest.mark.parametrize(("policy", "played"), [("lm", 2), ("oracle", 2), ("infers", 3)])
def test_who_is_the_0_or_the_1_of_the_scale_plays_once(capsys, monkeypatch, policy, played):
    evaluated: list[str] = []
    evaluate = rollout.evaluate

    def counted(*args, name, **more):
        evaluated.append(name)
        return evaluate(*args, name=name, **more)

    monkeypatch.setattr(rollout, "evaluate", counted)
    words = ["evaluate", policy, "--env", "Bargain-v0", "--episodes", "4", "--json"]
    told = json.loads(run(capsys, *words).out)
    assert sorted(evaluated) == sorted({"lm", "oracle", policy})
    assert len(evaluated) == played
    assert told["normalised"] == {"lm": 0, "oracle": 1}.get(policy, told["normalised"])


@pytest.mark.parametrize("words", [["--partner", "tiny", "--lm=hf:x"], ["--lm", "hf:x", "--partner=tiny"]])
def test_train_gathers_models(words):
    rest = _with_env([*words, "--steps", "9"], ["--lm", "--partner"])
    assert rest[:3] == ["--steps", "9", "--env-kwargs"]
    assert json.loads(rest[3]) == {"partner": "tiny", "lm": "hf:x"}
    assert _with_env(["--lm", "tiny"], ["--partner"]) == ["--lm", "tiny"], "an agent may have models of its own"


def test_play_with_a_language_model(capsys, monkeypatch):
    words = ["play", "Bargain-v0", "--seed", "1", "--partner", "tiny", "--json"]
    played = json.loads(run(capsys, *words, stdin="I offer half\n/hint\ndeal\n", monkeypatch=monkeypatch).out)
    assert [turn["role"] for turn in played["dialogue"]["turns"]] == ["buyer", "seller", "buyer"]
    assert played["stop_reason"] == "deal"
    assert played["oracle_return"] is None


def test_play_goes_on_when_the_model_fails(capsys, monkeypatch):
    with ApiServer(lambda body: "80%, please", faults=lambda request: "refused" if request.index == 0 else None) as to:
        words = ["play", "Bargain-v0", "--seed", "1", "--partner", f"openai:x@{to.url}"]
        shown = run(capsys, *words, stdin="I offer half\nI offer 60%\n", monkeypatch=monkeypatch).out
    assert "HTTP 400" in shown
    assert "seller: 80%, please" in shown
    assert "you left after 1 turn," in shown


def test_evaluate_with_a_partner_and_a_speaker(capsys):
    with ApiServer("tiny-bargain") as to:
        spec = f"openai:x@{to.url}?prefix={WEIGHTS / 'tiny-bargain'}"
        words = ["evaluate", "random", "--env", "BargainPrefix-v0", "--episodes", "2", "--json", "--partner", "tiny"]
        words += ["--lm", spec, "--set", "observer=tiny-bargain"]
        seen = json.loads(run(capsys, *words).out)
        assert seen["normalised"] is None
        assert len(seen["returns"]) == 2
        assert {request.path for request in to.requests} == {"/v1/completions"}
        assert all(request.body["prompt_embeds"] for request in to.requests)
