"""The file of answers: what is kept is found again, by several processes, or an error says why not."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dialog_gym.lm.answers import AnswerFile, key_of
from dialog_gym.lm.base import Generation

SAID = Generation("Größe 5 \N{SLIGHTLY SMILING FACE}\n", (3, 1), (-0.5, -2.25), "length")


def test_what_is_kept_is_found(tmp_path):
    path = tmp_path / "new" / "answers.sqlite"
    answers = AnswerFile(path)
    assert (len(answers), answers.find(["a", "b"])) == (0, {})
    answers.keep("a", SAID)
    answers.keep("a", SAID)
    assert AnswerFile(path).find(["b", "a", "a"]) == {"a": SAID}
    answers.drop(["a", "c"])
    assert len(answers) == 0


def test_more_keys_than_one_query_takes(tmp_path):
    answers = AnswerFile(tmp_path / "answers.sqlite")
    keys = [f"key {i}" for i in range(1203)]
    for key in keys[::2]:
        answers.keep(key, Generation(key, (), (), "end"))
    found = answers.find(keys)
    assert {key: answer.text for key, answer in found.items()} == {key: key for key in keys[::2]}


def test_several_threads_and_processes_write_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    code = """
import sys
from dialog_gym.lm.answers import AnswerFile
from dialog_gym.lm.base import Generation
path, name = sys.argv[1:]
answers = AnswerFile(path)
for i in range(40):
    answers.keep(f"{name} {i}", Generation(name, (i,), (), "end"))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(path), f"process {i}"]) for i in range(3)]
    answers = AnswerFile(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: answers.keep(f"thread {i}", SAID), range(40)))
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert len(answers) == 160
    assert answers.find(["process 2 39"])["process 2 39"].tokens == (39,)


def test_a_key_tells_all_that_is_asked_and_not_its_order():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert len({key_of(asked) for asked in ({"a": 1}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": 1, "b": None})}) == 5


class TestDamage:
    def test_a_file_that_is_no_database(self, tmp_path):
        path = tmp_path / "answers.sqlite"
        path.write_bytes(b"these are not answers" * 100)
        with pytest.raises(ValueError, match=r"answers.sqlite' cannot be used \(.*not a database.*delete it"):
            AnswerFile(path)
        assert path.read_bytes().startswith(b"these are not"), "nobody's file is overwritten"

    def test_a_file_cut_off(self, tmp_path):
        path = tmp_path / "answers.sqlite"
        answers = AnswerFile(path)
        for i in range(300):
            answers.keep(f"key {i}", SAID)
        answers.find([])
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(ValueError, match="cannot be used"):
            AnswerFile(path).find([f"key {i}" for i in range(300)])

    def test_another_format(self, tmp_path):
        path = tmp_path / "answers.sqlite"
        AnswerFile(path)
        connection = sqlite3.connect(path)
        connection.execute("UPDATE about SET value = '0'")
        connection.commit()
        connection.close()
        with pytest.raises(ValueError, match="has format 0, expected 1: delete it"):
            AnswerFile(path)

    def test_an_answer_that_is_none(self, tmp_path):
        answers = AnswerFile(tmp_path / "answers.sqlite")
        answers.keep("a", SAID)
        connection = sqlite3.connect(answers.path)
        connection.execute("UPDATE answers SET answer = '[1]'")
        connection.commit()
        connection.close()
        with pytest.raises(ValueError, match="holds an answer that cannot be read"):
            answers.find(["a"])

    def test_a_place_where_nothing_can_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises((ValueError, OSError), match="file"):
            AnswerFile(tmp_path / "file" / "answers.sqlite")
