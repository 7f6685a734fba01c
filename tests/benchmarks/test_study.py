import csv
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dialog_gym.agents.dt import DT
from dialog_gym.agents.lm_data import read_data
from dialog_gym.agents.lm_tokens import token_rows
from dialog_gym.benchmarks import study, study_data, study_scores, study_speech
from dialog_gym.benchmarks.paired import crossed_interval
from dialog_gym.benchmarks.study import Study
from dialog_gym.benchmarks.study_data import Context, lines
from dialog_gym.benchmarks.study_scores import Judge, best_of, gains, markdown, table
from dialog_gym.benchmarks.study_settings import Settings
from dialog_gym.benchmarks.study_speech import How, Voice, beams, candidates, responses
from dialog_gym.cli import main as cli
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Rankings
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.lm import load
from dialog_gym.rewards.text_metrics import WordOverlap
from dialog_gym.rollout import bootstrap

QUICK = {"batch": 2, "samples": 0, "eval_every": 0}
TINY = {
    "lm": "tiny",
    "contexts": 6,
    "held_out": 4,
    "metric": "overlap",
    "metrics": ("overlap", "perplexity"),
    "methods": ("tf", "dt"),
    "agent_args": {"tf": QUICK, "dt": QUICK},
    "steps": 1,
    "k": 3,
    "max_tokens": 12,
    "plot": False,
    "progress": False,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "dialogues.json"
    said = ["what food ?", "it is in the centre .", "you are welcome ."]
    dialogues = []
    for number in range(12):
        asked = [f"a place for {number} , please", "where is it ?", "thank you"]
        turns = [pair for one in zip(asked, said, strict=True) for pair in zip(("user", "system"), one, strict=True)]
        dialogues.append(
            {
                "dialogue_id": f"d{number}",
                "data_split": "train" if number < 8 else "test",
                "domains": ["restaurant"],
                "finished": True,
                "goal": {"description": "find a place", "inform": {}, "request": {}},
                "turns": [
                    {"speaker": who, "utterance": text, "dialogue_acts": {}, "state": {}} for who, text in turns
                ],
            }
        )
    path.write_text(json.dumps(dialogues))
    return path


def tiny(folder, corpus, **settings):
    return Settings(out=folder, corpus="camrest", path=str(corpus), **{**TINY, **settings})


@pytest.fixture(scope="module")
def done(tmp_path_factory, corpus):
    settings = tiny(tmp_path_factory.mktemp("study"), corpus)
    return settings, Study(settings).run()


@pytest.fixture(scope="module")
def tiny_lm():
    return load("tiny")


def dialogues(count=3):
    talk = Dialogue(Scenario("A shop ."), ("agent", "customer"))
    return [replace(talk, seed=k).said("customer", "hello " * (k + 1)) for k in range(count)]


# --- stages ------------------------------------------------------------------------------------


def test_a_stage_goes_on_where_it_was_killed(tmp_path):
    asked = []

    def square(some):
        asked.extend(some)
        if 4 in some and asked.count(4) == 1:
            raise RuntimeError("killed")
        return [value * value for value in some]

    with pytest.raises(RuntimeError, match="killed"):
        lines(tmp_path / "a", {"x": 1}, range(6), square, 2)
    with open(tmp_path / "a", "a") as file:
        file.write("1")  # half a line
    assert lines(tmp_path / "a", {"x": 1}, range(6), square, 2) == [0, 1, 4, 9, 16, 25]
    assert asked == [0, 1, 2, 3, 4, 5, 4, 5]
    assert lines(tmp_path / "b", {"x": 1}, range(6), square, 4) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_stage_of_other_settings_is_refused(tmp_path):
    lines(tmp_path / "a", {"x": 1}, [1], list)
    with pytest.raises(ValueError, match=re.escape('{"config": {"x": 2}}')):
        lines(tmp_path / "a", {"x": 2}, [1], list)


@pytest.mark.parametrize("text", ["", "a\u2028b", "a\x85b", "two\nlines", "nan"])
def test_any_text_survives_a_stage(tmp_path, text):
    assert lines(tmp_path / "a", {}, [text], list) == [text]
    assert lines(tmp_path / "a", {}, [text], list) == [text]


# --- contexts ----------------------------------------------------------------------------------


def test_no_held_out_dialogue_is_learned_from(done, corpus, tmp_path):
    train, heldout = Study(done[0]).contexts()
    assert (len(train), len(heldout)) == (6, 4)
    assert not {one.key for one in train} & {one.key for one in heldout}
    people = {row.dialogue.turns[0].text for row in Episodes.load(done[0].out / "people")}
    assert {one.dialogue.turns[0].text for one in train} <= people
    assert not {one.dialogue.turns[0].text for one in heldout} & people
    assert all(one.dialogue.turns[-1].role == "user" for one in (*train, *heldout))
    by_name, tested = Study(tiny(tmp_path, corpus, splits=("train", "test"), contexts=100)).contexts()
    assert len(by_name) == 3 * 8
    assert {one.key for one in tested} <= {f"d{number}" for number in range(8, 12)}


def test_a_context_is_what_was_said_before_the_response(done):
    for one in Study(done[0]).contexts()[0]:
        places = {"what food ?": 1, "it is in the centre .": 3, "you are welcome .": 5}
        assert len(one.dialogue.turns) == places[one.reference]


def test_words_that_were_not_published_are_not_learned():
    talk = dialogues(1)[0].said("agent", "deal").said("customer", "<selection>")
    episode = Recorded(0, talk, (0.0,), (0.0,))
    assert study_data._published(episode, "deal_or_no_deal").dialogue.turns == talk.turns[:-1]
    assert study_data._published(episode, "camrest") is episode


def test_another_corpus_under_the_same_name_is_refused(corpus, tmp_path):
    copy = tmp_path / "dialogues.json"
    copy.write_bytes(corpus.read_bytes())
    settings = tiny(tmp_path / "out", copy)
    settings.out.mkdir()
    Study(settings).contexts()
    copy.write_text(corpus.read_text().replace("what food", "which food"))
    with pytest.raises(ValueError, match=r"contexts\.jsonl was made with"):
        Study(settings).contexts()


# --- candidates --------------------------------------------------------------------------------


def test_there_are_six_candidates_and_the_first_is_the_persons(done):
    train, _ = Study(done[0]).contexts()
    rows = list(Rankings.load(done[0].out / "rankings"))
    assert [row.candidates[0] for row in rows] == [one.reference for one in train]
    assert {len(set(row.candidates)) for row in rows} == {6}
    assert {row.scores[0] for row in rows} == {1.0}
    assert {tuple(row.meta["sources"]) for row in rows} == {("human", *["base"] * 5)}
    assert [row.candidates for row in Rankings.load(done[0].out / "human")] == [(one.reference,) for one in train]


def test_the_person_is_never_scored(done, tiny_lm, monkeypatch, tmp_path):
    asked: list[tuple[str, tuple[str, ...]]] = []

    def measured(self, texts, references):
        asked.extend(zip(texts, references, strict=True))
        return np.full(len(texts), 0.6)

    made = Study(done[0])
    train, _ = made.contexts()
    said = made.candidates(train, tiny_lm)
    for name in ("contexts.jsonl", "candidates.jsonl"):
        (tmp_path / name).write_bytes((done[0].out / name).read_bytes())
    monkeypatch.setattr(WordOverlap, "measured", measured)
    other = Study(replace(done[0], out=tmp_path))
    rewards = other.rewards(train, said, Judge(("overlap",)))
    assert len(asked) == 1 + 5 * 6  # one to find out whether it works
    assert not any(text in references for text, references in asked[1:])
    assert rewards == [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]] * 6  # .6 is not above .6


def test_candidates_do_not_depend_on_those_beside_them(tiny_lm):
    how, voice = How("sample", 4, 12), Voice(tiny_lm)
    together = candidates(voice, dialogues(), [""] * 3, how)
    assert [len(set(texts)) for texts in together] == [4, 4, 4]
    assert together == [candidates(voice, [one], [""], how)[0] for one in dialogues()]


def test_what_the_person_said_is_no_other_candidate(tiny_lm):
    how, voice = How("sample", 4, 12), Voice(tiny_lm)
    taken = candidates(voice, dialogues(1), [""], how)[0][1]
    assert taken not in candidates(voice, dialogues(1), [taken], how)[0]


def test_one_beam_is_greedy(tiny_lm):
    voice = Voice(tiny_lm)
    greedy = responses(voice, dialogues(), How("sample", 0, 12))
    assert beams(voice, voice.ids(dialogues(), 12), 1, 12) == greedy


def test_more_beams_are_searched_only_where_some_say_the_same(tiny_lm, monkeypatch):
    asked = []

    def found(voice, prompts, count, max_tokens):
        asked.append((len(prompts), count))
        return [
            [f"{'same' if len(asked) == 1 and row else number}" for number in range(count)]
            for row in range(len(prompts))
        ]

    monkeypatch.setattr(study_speech, "beams", found)
    made = candidates(Voice(tiny_lm), dialogues(), ["", "", "1"], How("beam", 3, 12))
    assert asked == [(3, 3), (2, 5)]
    assert made == [["0", "1", "2"], ["0", "1", "2"], ["0", "2", "3"]]


def test_beams_are_different_and_leave_the_model_as_it_was(tiny_lm):
    voice = Voice(tiny_lm)
    before = responses(voice, dialogues(), How("sample", 2, 12))
    found = candidates(voice, dialogues(), [""] * 3, How("beam", 5, 12))
    assert [len(set(texts)) for texts in found] == [5, 5, 5]
    assert responses(voice, dialogues(), How("sample", 2, 12)) == before
    assert [len(texts) for texts in responses(voice, dialogues(), How("beam", 2, 12))] == [3, 3, 3]


def test_speed_is_told_beside_raw_generation(done):
    speed = done[1]["candidates"]["speed"]
    assert speed["ratio"] == pytest.approx(speed["ours"] / speed["raw"])
    assert speed["ours"] > 0


def test_a_turn_that_is_too_long_is_found_out(tiny_lm):
    voice = Voice(tiny_lm)
    long = dialogues(1)[0].said("customer", "a place " * 2000)
    assert voice.fits(dialogues(1)[0], 12)
    assert not voice.fits(long, 12)


def test_policies_are_asked_as_they_were_trained(done):
    agent = DT.load(done[0].out / "runs" / "dt-1" / "agent")
    train, _ = Study(done[0]).contexts()
    told = list(read_data([done[0].out / "rankings"], agent.lm))[::6]  # the persons' responses, of reward 1
    rows = list(token_rows(told, agent.lm, max_tokens=12, mark=agent.mark))
    prompts = Voice(agent).ids([one.dialogue for one in train], 12)
    assert prompts == [row.tokens[: row.said[0]].tolist() for row in rows]
    assert {ids[-1] for ids in prompts} == {agent.tokens[1]}


def test_responses_are_ordered_by_what_ilql_thinks_they_are_worth(done, tmp_path):
    made = Study(replace(done[0], methods=("ilql",), agent_args={"ilql": {**QUICK, "out": str(tmp_path / "run")}}))
    agent, (_, heldout) = made.train("ilql", 1, "tiny"), made.contexts()
    torch.nn.init.normal_(agent.network.heads["v"][-1].weight, generator=torch.Generator().manual_seed(0))
    texts = [["it is in the centre .", "", "you are welcome ."]] * 4
    found = study_speech.worth(agent, [one.dialogue for one in heldout], texts)
    alone = [study_speech.worth(agent, [one.dialogue], texts[:1])[0] for one in heldout]
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # V of the state before the token that ends the turn
        (prompt,) = agent.prompt_ids([heldout[0].dialogue])
        ids = [*prompt, *agent.lm.chat.encode_reply(texts[0][0], agent.words(heldout[0].dialogue))]
        hidden = agent.network.plain.get_decoder()(input_ids=torch.tensor([ids]))[0][0, -1]
        assert found[0][0] == pytest.approx(float(agent.network.heads["v"](hidden)), abs=1e-4)


# --- the whole ---------------------------------------------------------------------------------


def test_a_study_with_ilql_has_rows_by_value(done, monkeypatch):
    settings, report = done
    monkeypatch.setattr(
        study_speech, "worth", lambda agent, contexts, texts: [[len(t) for t in some] for some in texts]
    )
    own: Any = TINY["agent_args"]
    more = {**own, "ilql": QUICK}
    again = Study(replace(settings, methods=("tf", "dt", "ilql"), agent_args=more)).run()
    lines_of = {(line["method"], line["metric"], line["k"]): line["mean"] for line in again["lines"]}
    assert {method for method, _, _ in lines_of} == {"base", "tf", "dt", "ilql", "dt by V", "ilql by V"}
    assert lines_of["dt by V", "overlap", 3] == pytest.approx(lines_of["dt", "overlap", 3])  # the best of all
    said = [json.loads(line) for line in (settings.out / "said-dt-1.jsonl").read_text().splitlines()[1:]]
    found = [
        json.loads(line)["overlap"] for line in (settings.out / "measured-dt-1.jsonl").read_text().splitlines()[1:]
    ]
    longest = [row[int(np.argmax([len(text) for text in some[:3]]))] for row, some in zip(found, said, strict=True)]
    assert lines_of["dt by V", "overlap", 1] == pytest.approx(np.mean(longest))
    settings.out.joinpath("report.json").write_text(json.dumps(report))


def test_the_report_has_every_method(done):
    settings, report = done
    assert report["failed"] == []
    assert {line["method"] for line in report["lines"]} == {"base", "tf", "dt"}
    assert {line["metric"] for line in report["lines"]} == {"overlap", "perplexity"}
    assert {(line["method"], line["k"]) for line in report["gains"]} == {("base - tf", 1), ("dt - tf", 1)}
    assert report["contexts"] == {"train": 6, "heldout": 4, "too_long": 0}
    assert "| dt | 1 | 3 |" in (settings.out / "table.md").read_text()
    args = json.loads((settings.out / "runs" / "tf-1" / "config.json").read_text())["args"]
    assert args["data"] == [str(settings.out / "human")]


def test_the_csv_has_each_response_and_its_numbers(done):
    with open(done[0].out / "evaluation_dt-1.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        texts = [row[f"response_{k}"] for k in (1, 2, 3)]
        found = study_scores.LEXICAL["overlap"]().measured(texts, [(row["true_response"],)] * 3)
        assert [float(row[f"overlap_{k}"]) for k in (1, 2, 3)] == pytest.approx(found)


def test_an_empty_response_survives_the_csv(tmp_path):
    one = Context("d", "heldout", dialogues(1)[0], "yes")
    study_scores.write_csv(tmp_path / "a.csv", [one], [["", "nan"]], {"overlap": [[0.0, 1.0]]})
    with open(tmp_path / "a.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["response_1"], row["response_2"]) == ("", "nan")
    assert '"yes","","nan"' in (tmp_path / "a.csv").read_text()


def test_a_study_that_is_done_computes_nothing(done, monkeypatch):
    for name in ("candidates", "responses", "speed"):
        monkeypatch.setattr(study_speech, name, lambda *_: pytest.fail("computed again"))
    monkeypatch.setattr(Judge, "measure", lambda *_: pytest.fail("computed again"))
    again = Study(done[0]).run()
    assert again == done[1]


def test_a_study_goes_on_after_an_exception_between_stages(corpus, tmp_path, monkeypatch):
    settings = tiny(tmp_path, corpus, methods=("tf",), agent_args={"tf": QUICK})

    def killed(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Study, "rewards", killed)
        with pytest.raises(RuntimeError, match="killed"):
            Study(settings).run()
    made = (tmp_path / "candidates.jsonl").read_bytes()
    monkeypatch.setattr(study_speech, "candidates", lambda *_: pytest.fail("computed again"))
    assert Study(settings).run()["failed"] == []
    assert (tmp_path / "candidates.jsonl").read_bytes() == made


def test_other_settings_are_refused(done):
    with pytest.raises(ValueError, match=r"contexts\.jsonl was made with"):
        Study(replace(done[0], contexts=5)).run()
    with pytest.raises(ValueError, match=r"candidates\.jsonl was made with"):
        Study(replace(done[0], n=4)).run()
    with pytest.raises(ValueError, match=r"scores\.jsonl was made with"):
        Study(replace(done[0], threshold=0.5)).run()


def test_a_method_that_fails_is_reported_and_the_rest_goes_on(done, monkeypatch, caplog):
    train = Study.train

    def broken(self, method, seed, lm):
        if method == "tf":
            raise RuntimeError("no luck")
        return train(self, method, seed, lm)

    monkeypatch.setattr(Study, "train", broken)
    report = Study(done[0]).run()
    assert report["failed"] == ["tf-1"]
    assert {line["method"] for line in report["lines"]} == {"base", "dt"}
    assert "no luck" in caplog.text
    Study(replace(done[0], methods=())).out.joinpath("report.json").write_text(json.dumps(done[1]))


def test_without_an_encoder_a_lexical_metric_serves_and_is_named(done, monkeypatch, tmp_path):
    def missing(encoder):
        raise ModuleNotFoundError(encoder)

    monkeypatch.setattr(study, "encoder_folder", missing)
    made = Study(replace(done[0], metric="bertscore", fallback="chrf"))
    assert made.metric == "chrf"
    assert "scored by chrf" in made.notes[0]


def test_rewards_may_be_the_scores_themselves(done):
    graded, binary = Study(replace(done[0], graded=True)), Study(done[0])
    assert [graded._reward(0.61), binary._reward(0.61), binary._reward(0.6)] == [0.61, 1.0, 0.0]


def test_the_command_shows_the_table_and_writes_images(done, corpus, capsys):
    flags = ["study", "camrest", str(corpus), "--out", str(done[0].out)]
    asked = {"lm": "tiny", "contexts": 6, "held-out": 4, "metric": "overlap", "steps": 1, "k": 3, "max-tokens": 12}
    flags += [part for name, value in asked.items() for part in (f"--{name}", str(value))]
    flags += ["--metrics", "overlap", "perplexity", "--methods", "tf", "dt"]
    flags += ["--agent-args", json.dumps(TINY["agent_args"]), "--no-progress"]
    cli(flags)
    assert "| tf | 1 | 1 |" in capsys.readouterr().out
    assert (done[0].out / "best_of_overlap.png").stat().st_size > 1000
    assert (done[0].out / "first_overlap.png").stat().st_size > 1000


def test_the_command_studies_an_environment_too(tmp_path, capsys):
    flags = ["--log", "20", "--shares", '{"random": 1.0}', "--seeds", "1", "--steps", "1", "--episodes", "2"]
    flags += ["--methods", "tf_all", "--agent-args", json.dumps({"tf_all": QUICK}), "--no-plot", "--no-progress"]
    cli(["study", "Bargain-v0", "--out", str(tmp_path), *flags])
    assert "| tf_all |" in capsys.readouterr().out
    assert (tmp_path / "runs" / "tf_all-1" / "result.json").exists()


def test_the_command_tells_what_a_study_needs(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli(["study", "camrst"])
    assert "no corpus or environment named 'camrst'; did you mean 'camrest'?" in capsys.readouterr().err
    for words, told in (([], "CORPUS|ENV"), (["camrest", "file"], "--held-out"), (["Bargain-v0"], "--shares")):
        with pytest.raises(SystemExit, match="0"):
            cli(["study", *words, "--help"])
        assert told in capsys.readouterr().out


def test_a_study_in_which_a_method_failed_says_so(done, corpus, monkeypatch):
    monkeypatch.setattr(study, "main", lambda argv, prog: 1)
    with pytest.raises(SystemExit, match="1"):
        cli(["study", "camrest", str(corpus)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ("tf3",)}, "tf_all"),
        ({"metric": "click"}, "bertscore"),
        ({"k": 0}, "k must be at least 1"),
        ({"splits": ("train",)}, "splits are two"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(tmp_path, corpus, wrong, message):
    with pytest.raises((ValueError, KeyError), match=message):
        tiny(tmp_path, corpus, **wrong)


# --- numbers -----------------------------------------------------------------------------------

SCORES = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1, 1))


def test_perplexity_does_not_depend_on_what_is_read_beside(done, tiny_lm):
    _, heldout = Study(done[0]).contexts()
    texts = [["it is in the centre .", "no"], ["", "yes please"], ["where is it ?"], ["a place for you " * 4]]
    together = Judge(("perplexity",), tiny_lm).measure("perplexity", heldout * 10, texts * 10)
    for one, some, numbers in zip(heldout, texts, together[:4], strict=True):
        alone = [Judge(("perplexity",), tiny_lm).measure("perplexity", [one], [[text]])[0][0] for text in some]
        assert numbers == pytest.approx(alone, abs=1e-3)


@given(SCORES, st.booleans())
def test_more_responses_never_make_the_best_worse(values, lower):
    best = best_of(values, lower)
    steps = np.diff(best, axis=1)
    assert ((steps <= 0) if lower else (steps >= 0)).all()
    np.testing.assert_array_equal(best[:, 0], values[:, 0])
    np.testing.assert_array_equal(best[:, -1], values.min(1) if lower else values.max(1))


def test_the_table_averages_seeds_per_context():
    found = {"tf": {1: {"overlap": [[0.0, 0.2], [0.4, 0.4]]}, 2: {"overlap": [[0.2, 0.6], [0.4, 0.8]]}}}
    first, best = table(found)
    assert (first.k, first.seeds, best.k) == (1, 2, 2)
    assert (first.mean, best.mean) == pytest.approx((0.25, 0.5))  # (.1 + .4) / 2 and (.4 + .6) / 2
    assert markdown([first, best]).splitlines()[0] == "| method | seeds | best of | overlap |"
    assert markdown([first, best]).splitlines()[2].startswith("| tf | 2 | 1 | 0.250 [")


def test_one_seed_has_the_interval_over_contexts():
    rows = [[0.1], [0.5], [0.9], [0.2]]
    (line,) = table({"tf": {1: {"overlap": rows}}})
    assert (line.mean, line.low, line.high) == (0.425, *bootstrap([0.1, 0.5, 0.9, 0.2]))


def test_intervals_know_that_seeds_differ():
    apart = {1: {"overlap": [[0.0], [0.1]]}, 2: {"overlap": [[0.4], [0.5]]}, 3: {"overlap": [[0.8], [0.9]]}}
    (line,) = table({"dt": apart})
    assert (line.low, line.high) == crossed_interval([[0.0, 0.1], [0.4, 0.5], [0.8, 0.9]])
    assert line.high - line.low > 1.9  # Student's t of 2 degrees of freedom, 4.3 * .4 / sqrt(3) to either side
    same = {seed: {"overlap": [[0.2], [0.3]]} for seed in (1, 2, 3)}
    (gain,) = gains({"tf": same, "dt": apart}, "tf")
    assert gain.mean == pytest.approx(0.2)
    assert (gain.low, gain.high) == pytest.approx(crossed_interval([[-0.2, -0.2], [0.2, 0.2], [0.6, 0.6]]))


def test_gains_are_paired_by_seed():
    tf = {1: {"overlap": [[0.1], [0.9]]}, 3: {"overlap": [[0.3], [0.5]]}}
    dt = {2: {"overlap": [[9.0], [9.0]]}, 3: {"overlap": [[0.4], [0.7]]}}
    base, ilql = {0: {"overlap": [[0.1], [0.1]]}}, {2: {"overlap": [[0.0], [0.0]]}}
    of_base, of_dt = gains({"base": base, "tf": tf, "dt": dt, "ilql": ilql}, "tf")
    assert (of_dt.method, of_dt.seeds) == ("dt - tf", 1)
    assert (of_base.method, of_base.seeds) == ("base - tf", 2)
    assert (of_dt.mean, of_base.mean) == pytest.approx((0.15, -0.35))


def test_gains_are_paired_by_context():
    found = {"tf": {1: {"overlap": [[0.1], [0.9]]}}, "dt": {1: {"overlap": [[0.3], [1.1]]}}}
    (gain,) = gains(found, "tf")
    assert gain.method == "dt - tf"
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.2, 0.2, 0.2))


def test_less_perplexity_is_better():
    found = {"tf": {1: {"perplexity": [[3.0, 2.0]]}}}
    assert [line.mean for line in table(found)] == [3.0, 2.0]
