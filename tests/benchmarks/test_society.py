import json

from dialog_gym.benchmarks import society


def test_the_report(tmp_path, capsys):
    small = ["--agents", "4", "--rounds", "2", "--seeds", "1", "--api-agents", "4", "--tiny-agents", "0"]
    small += ["--kills", "1", "--killed-agents", "4", "--killed-rounds", "3"]
    society.main([*small, "--latency", "0.01", "--json", "--out", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert len(found["settings"]) == 4
    assert found["settings"][0]["calls"] == 8  # two neighbours within 1
    assert found["speed"][1]["calls"] == 64
    assert found["speed"][1]["failed"] == 0
    assert found["speed"][1]["over the floor"] > 1
    assert found["kills"]["same"]


def test_another_file_is_seen(tmp_path):
    (tmp_path / "a").write_text("1")
    before = society.contents(tmp_path)
    (tmp_path / "a").write_text("2")
    assert society.contents(tmp_path) != before


def test_what_the_server_says():
    assert society.says({"messages": [{"content": "Rating: N"}]}).startswith("Rating: ")
