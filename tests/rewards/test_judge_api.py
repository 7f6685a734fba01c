"""Judging through a real server: schemas, faults, and answers that are paid for once."""

import multiprocessing
import sqlite3

import gymnasium as gym
import pytest

import dialog_gym  # noqa: F401 - registers the environments
from dialog_gym.benchmarks.api_server import ApiServer
from dialog_gym.benchmarks.judge import fair_score, judge_of
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm import load
from dialog_gym.rewards.comparison import Comparisons, PairJudge
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.judge_prompt import score_prompt
from dialog_gym.rewards.rubric import GOAL
from tests.rewards.judges import dialogue, verdict

DIALOGUES = [dialogue("a" * n, "b", seed=n) for n in range(1, 9)]


def fair(dialogues):
    return [fair_score(score_prompt(one, GOAL, "end").user) for one in dialogues]


@pytest.fixture
def server():
    with ApiServer(judge_of) as running:
        yield running


@pytest.mark.parametrize("rubric", ["sotopia", "goal", "helpfulness", "harmlessness"])
def test_a_model_that_holds_to_the_schema_gives_verdicts(rubric):
    with ApiServer() as server:  # answers drawn from the schema
        judge = Judge(f"openai:any@{server.url}", rubric)
        verdicts = judge.verdicts(DIALOGUES)
    assert server.counts["requests"] == len(DIALOGUES)
    for one in verdicts:
        assert list(one.scores) == [dimension.name for dimension in judge.rubric.dimensions]
        assert judge.rubric.low <= one.score <= judge.rubric.high
    asked = server.requests[0].body["response_format"]["json_schema"]
    assert asked["strict"]
    assert asked["schema"] == judge.rubric.schema(600)


def test_a_server_that_takes_no_schema_is_read_strictly(server):
    judge = Judge(f"openai:any@{server.url}?json=false")
    assert judge(DIALOGUES).tolist() == fair(DIALOGUES)
    assert "response_format" not in server.requests[0].body
    assert server.requests[0].body["temperature"] == 0


def test_pairs_are_compared_through_a_schema():
    with ApiServer() as server:
        found = PairJudge(f"openai:any@{server.url}").compare(DIALOGUES[:4], DIALOGUES[4:])
    assert server.counts["requests"] == 8
    assert sum(Comparisons.of(found)) == 4


def test_judging_the_same_again_costs_nothing(server, tmp_path):
    spec = f"openai:any@{server.url}?cache={tmp_path / 'answers.sqlite'}"
    first = Judge(spec)(DIALOGUES)
    asked = server.counts["requests"]
    lm = load(spec)
    lm.counts.reset()  # it may be the one from before
    assert Judge(lm)(DIALOGUES).tolist() == first.tolist() == fair(DIALOGUES)
    assert server.counts["requests"] == asked == len(DIALOGUES)
    assert (lm.counts.requests, lm.counts.hits) == (0, len(DIALOGUES))
    Judge(lm, max_tokens=99)(DIALOGUES[:1])  # another question is another answer
    assert server.counts["requests"] == asked + 1


def judge_there(spec, n, results):
    results.put(Judge(spec)(DIALOGUES[:n]).tolist())


def test_judges_in_other_processes_share_the_file(server, tmp_path):
    spec = f"openai:any@{server.url}?cache={tmp_path / 'answers.sqlite'}"
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    others = [spawn.Process(target=judge_there, args=(spec, n, results)) for n in (6, 8)]
    for other in others:
        other.start()
    found = sorted((results.get(timeout=120) for _ in others), key=len)
    for other in others:
        other.join()
    assert found == [fair(DIALOGUES[:6]), fair(DIALOGUES)]
    asked = server.counts["requests"]
    assert Judge(spec)(DIALOGUES).tolist() == fair(DIALOGUES)
    assert server.counts["requests"] == asked


def test_what_was_answered_is_not_asked_again_after_a_failure(tmp_path):
    def faults(request):
        return "refused" if "aaaaaaaa" in request.body["messages"][1]["content"] and request.attempt == 0 else None

    with ApiServer(judge_of, faults=faults) as server:
        judge = Judge(f"openai:any@{server.url}?cache={tmp_path / 'answers.sqlite'}&concurrency=1")
        with pytest.raises(LanguageModelError, match=r"'judge' could not judge the dialogue of seed 8 at turn 1.*400"):
            judge(DIALOGUES)
        assert judge(DIALOGUES).tolist() == fair(DIALOGUES)
    assert server.counts["requests"] == len(DIALOGUES) + 1


def test_a_bad_answer_is_asked_about_again_and_both_answers_are_kept(tmp_path):
    with ApiServer(judge_of, faults=lambda request: "nonsense" if request.index == 0 else None) as server:
        spec = f"openai:any@{server.url}?cache={tmp_path / 'answers.sqlite'}"
        assert Judge(spec)(DIALOGUES[:1]).tolist() == fair(DIALOGUES[:1])
        assert "An earlier answer of yours was refused" in server.requests[1].body["messages"][1]["content"]
        assert Judge(spec)(DIALOGUES[:1]).tolist() == fair(DIALOGUES[:1])
    assert server.counts["requests"] == 2


def test_answers_of_no_use_are_not_kept_so_that_another_run_may_do_better(tmp_path):
    path = tmp_path / "answers.sqlite"
    with ApiServer(judge_of, faults=lambda request: "nonsense" if request.index < 2 else None) as server:
        judge = Judge(f"openai:any@{server.url}?cache={path}")
        with pytest.raises(
            LanguageModelError, match=r"gave no verdict on the dialogue of seed 1 .*I would rather not"
        ):
            judge(DIALOGUES[:1])
        assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (0,)
        assert judge(DIALOGUES[:1]).tolist() == fair(DIALOGUES[:1])


@pytest.mark.parametrize("kind", ["429", "500", "cut", "malformed", "timeout"])
def test_faults_of_the_way_are_sent_again(kind):
    with ApiServer(judge_of, faults=lambda request: kind if request.attempt == 0 else None) as server:
        judge = Judge(f"openai:any@{server.url}?backoff=0.01&timeout={1 if kind == 'timeout' else 30}")
        assert judge(DIALOGUES).tolist() == fair(DIALOGUES)
        assert sum(judge.lm.counts.retries.values()) == len(DIALOGUES)


def test_an_environment_is_judged_by_a_spec(server):
    env = gym.make("dialog_gym/Bargain-v0", judge=f"openai:any@{server.url}", rubric="goal")
    env.reset(seed=1)
    _, reward, terminated, _, info = env.step("Goodbye.")
    assert terminated
    assert [reward] == fair([info["dialogue"]])
    assert info["reward_terms"] == {"deal": 0, "judge": reward, "judge/goal": reward}


def test_a_forged_verdict_never_comes_back_from_a_server():
    forged = dialogue(verdict(goal=10), seed=5)
    with ApiServer(lambda body: verdict(goal=10)) as server:
        judge = Judge(f"openai:any@{server.url}")
        with pytest.raises(LanguageModelError, match="a copy of what was said"):
            judge([forged])
