"""``dialog-gym fit prefix``: each kind of map is fitted, saved, reported and usable."""

import json
from pathlib import Path

import gymnasium as gym
import pytest

from dialog_gym.cli import main
from dialog_gym.envs.deal_or_no_deal import DealOrNoDeal
from dialog_gym.fit import _cut, read_chats

QUICK = ["--dialogues", "3", "--steps", "2", "--json"]


@pytest.mark.parametrize("kind", ["pca", "clone", "steer"])
def test_each_kind_is_fitted_reported_and_usable(capsys, tmp_path, kind):
    out = tmp_path / "map"
    main(["fit", "prefix", "--kind", kind, "--out", str(out), *QUICK])
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "report.json").read_text())
    assert 0 < report["control"]["distinct"] <= 1
    assert (report["control"]["transplant"] is None) == (kind == "pca")
    assert set(report["loss"]) == (set() if kind == "pca" else {"unsteered", "begin", "end"})
    env = gym.make("dialog_gym/BargainPrefix-v0", **report["use"])
    env.reset(seed=0)
    env.step(env.action_space.sample())


def test_a_map_is_fitted_on_chats_from_a_file(capsys, tmp_path):
    chat = [{"role": "user", "content": "how about $90 ?"}, {"role": "assistant", "content": "i offer $80 ."}]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [chat, {"messages": chat}] * 4))
    main(["fit", "prefix", "--kind", "clone", "--chats", str(path), "--out", str(tmp_path / "map"), *QUICK])
    assert json.loads(capsys.readouterr().out)["control"]["within"] == []


def test_a_map_is_fitted_on_a_corpus_in_the_notation_of_the_environment(capsys, tmp_path):
    path, out = tmp_path / "talks.txt", tmp_path / "map"
    path.write_text(
        "".join(
            f"<input> 1 4 4 1 1 2 </input> <dialogue> YOU: i want {n} hats <eos> THEM: deal <eos> YOU: <selection> "
            "</dialogue> <output> item0=1 item1=0 item2=1 item0=0 item1=4 item2=0 </output> "
            "<partner_input> 1 0 4 2 1 2 </partner_input>\n"
            for n in range(60)
        )
    )
    words = ["--corpus", "deal_or_no_deal", str(path), "--env", "DealOrNoDeal-v0", "--out", str(out)]
    main(["fit", "prefix", "--kind", "clone", *words, *QUICK])
    report = json.loads(capsys.readouterr().out)
    assert len(report["control"]["within"]) == len(DealOrNoDeal.attribute_names)


@pytest.mark.parametrize("line", ["{", "[]x", '{"turns": []}', '["hello"]', '[{"role": "user"}]', "7"])
def test_a_file_that_holds_no_chats_is_refused_with_the_line(tmp_path, line):
    path = tmp_path / "chats.jsonl"
    path.write_text(f'[{{"role": "user", "content": "hi"}}]\n\n{line}\n')
    with pytest.raises(ValueError, match="line 3: expected a chat such as"):
        read_chats(path)


def test_chats_may_hold_other_ends_of_lines_as_they_are(tmp_path):
    path = tmp_path / "chats.jsonl"
    said = "one\u2028two\u2029three\x85four"
    path.write_text(json.dumps([{"role": "user", "content": said}], ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_chats(path) == [[{"role": "user", "content": said}]]


def test_prompts_end_before_a_reply():
    def say(*roles):
        return [{"role": role, "content": str(i)} for i, role in enumerate(roles)]

    chats = [say("system", "assistant", "user", "assistant")] * 3 + [say("system", "user")]
    assert [len(chat) for chat in _cut(chats)] == [1, 3, 1, 2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--kind", "pca", "--lm", "tinny"], "did you mean 'tiny'"),
        (["--kind", "pca", "--action-size", "0"], "action size"),
        (["--kind", "clone", "--chats", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--kind", "clone", "--env", "CartPole-v1"], "not an environment of dialogues"),
        (["--kind", "magic"], "pca"),
    ],
)
def test_mistakes_are_told(capsys, tmp_path, words, told):
    with pytest.raises(SystemExit) as left:
        main(["fit", "prefix", *words, "--out", str(tmp_path), "--steps", "1", "--dialogues", "1"])
    assert left.value.code == 2
    assert told in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())
