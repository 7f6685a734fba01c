"""``dialog-gym evaluate --judge``: episodes are scored by a judge besides the environment's reward."""

import json
import re

import numpy as np
import pytest

from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.benchmarks.judge import fair_score, judge_of
from dialog_gym.cli import main
from dialog_gym.dialogue import Dialogue
from dialog_gym.judging import judge_episodes
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.judge_prompt import score_prompt
from dialog_gym.rewards.rubric import GOAL, SOTOPIA
from dialog_gym.rollout import Episode
from tests.rewards.judges import Scripted, dialogue, verdict

ORACLE = "evaluate oracle --env Bargain-v0 --raw --episodes 6 --rows 4"


def test_evaluate_reports_the_judge_and_a_second_time_for_nothing(capsys, tmp_path):
    out = tmp_path / "said.jsonl"
    with ApiServer(judge_of) as server:
        words = f"{ORACLE} --json --out {out} --judge openai:any@{server.url}?cache={tmp_path / 'answers.sqlite'}"
        main(words.split())
        first = json.loads(capsys.readouterr().out)
        main(words.split())
        second = json.loads(capsys.readouterr().out)
    assert server.counts["requests"] == 6
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    shown = [score_prompt(Dialogue.from_json(line["dialogue"]), GOAL, "end").user for line in lines]
    assert first["judge"]["scores"] == [fair_score(one) for one in shown] == [line["judge"]["score"] for line in lines]
    assert first["judge"]["mean"] == pytest.approx(np.mean(first["judge"]["scores"]))
    assert first["judge"]["dimensions"] == {"goal": pytest.approx(first["judge"]["mean"])}
    assert (first["judge"]["counts"]["requests"], first["judge"]["counts"]["hits"]) == (6, 0)
    assert (second["judge"]["counts"]["requests"], second["judge"]["counts"]["hits"]) == (0, 6)
    assert second["judge"]["scores"] == first["judge"]["scores"]
    assert second["returns"] == first["returns"]
    assert lines[0]["judge"]["reasoning"] == "so it is"


def test_evaluate_shows_the_judge_in_its_table(capsys):
    with ApiServer() as server:  # scores drawn from the schema
        main([*ORACLE.split(), "--rubric", "sotopia", "--judge", f"openai:any@{server.url}"])
    *shown, spent = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert re.fullmatch(r"The judge read [\d,]+ tokens and wrote \d+ \(6 requests, 0 answers known\)\.", spent)
    assert [line.split()[0] for line in shown[0].splitlines()[-8:]] == [
        "sotopia",
        *(d.name for d in SOTOPIA.dimensions),
    ]


def test_without_a_judge_nothing_is_added(capsys):
    main([*ORACLE.split(), "--json"])
    assert "judge" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--judge tinny", "unknown language model"),
        ("--judge openai:any@http://127.0.0.1:9/v1 --rubric gaol", "no rubric named 'gaol'; did you mean 'goal'"),
        ("--judge openai:any@http://127.0.0.1:9/v1?attempts=1", "judge 'judge' could not judge the dialogue of seed"),
    ],
)
def test_a_judge_that_cannot_judge_is_told_in_one_sentence(capsys, words, told):
    with pytest.raises(SystemExit) as left:
        main([*ORACLE.split(), *words.split()])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_a_judge_that_fails_takes_neither_the_evaluation_nor_the_dialogues_with_it(capsys, tmp_path):
    words = [*ORACLE.split(), "--json", "--out", str(tmp_path / "said.jsonl")]
    with pytest.raises(SystemExit):
        main([*words, "--judge", "openai:any@http://127.0.0.1:9/v1?attempts=1"])
    shown, kept = json.loads(capsys.readouterr().out), (tmp_path / "said.jsonl").read_text(encoding="utf-8")
    main(words)
    assert shown == json.loads(capsys.readouterr().out)
    assert kept == (tmp_path / "said.jsonl").read_text(encoding="utf-8")


def test_costs_are_those_of_this_judging_alone():
    lm = Scripted(lambda messages: verdict(goal=3))
    lm.counts.requests, lm.counts.retries["429"] = 7, 2
    judged = judge_episodes(Judge(lm), [Episode(0, dialogue("a"), (0.0,), (0.0,))])
    assert (judged.counts["requests"], judged.counts["retries/429"]) == (0, 0)
    assert judged.scores == [3.0]
