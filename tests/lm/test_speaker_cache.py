"""Speakers by their short name."""

from pathlib import Path

import pytest

from dialog_gym.lm import load
from dialog_gym.lm.speaker_cache import built_speaker, cache_folder, speaker_folder
from dialog_gym.lm.spec import Spec, parse


@pytest.mark.parametrize(
    ("own", "shared", "wanted"),
    [
        ("/a/own", "/b", "/a/own"),
        (None, "/b", "/b/dialog_gym"),
        (None, "relative", "HOME/.cache/dialog_gym"),  # the standard has such ignored
        (None, None, "HOME/.cache/dialog_gym"),
        ("", "", "HOME/.cache/dialog_gym"),
    ],
)
def test_where_the_cache_is(monkeypatch, own, shared, wanted):
    for name, value in (("DIALOG_GYM_CACHE", own), ("XDG_CACHE_HOME", shared)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(wanted.replace("HOME", str(Path.home())))


def test_a_speaker_that_was_not_built_is_told_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("DIALOG_GYM_CACHE", str(tmp_path))
    (tmp_path / "speakers" / "casino").mkdir(parents=True)
    (tmp_path / "speakers" / "casino" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no speaker 'sgd' .*there: casino.*dialog-gym fit speaker"):
        load("speaker:sgd?device=cpu")
    assert built_speaker("casino") == tmp_path / "speakers" / "casino"


@pytest.mark.parametrize("name", ["", "../tiny", "a/b", ".hidden", "a b"])
def test_names_are_plain(name):
    with pytest.raises(ValueError, match="named by letters"):
        speaker_folder(name)


def test_what_a_spec_says():
    assert parse("speaker:casino?dtype=float16") == Spec("speaker", "casino", "", {"dtype": "float16"})
    with pytest.raises(ValueError, match="'speaker:NAME'"):
        parse("speaker:")
