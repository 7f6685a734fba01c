"""What a report is made of, what it leaves out and says so, and what it refuses."""

import base64
import gzip
import json
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.benchmarks.leaderboard import leaderboard
from dialog_gym.benchmarks.leaderboard_tables import summary as summary_of
from dialog_gym.cli import main
from dialog_gym.data import Episodes
from dialog_gym.report import page
from dialog_gym.report.board import board
from dialog_gym.report.payload import clean, payload, per_turn
from dialog_gym.report.sources import Sources, read_sources
from tests.report.made import EVIL, episode, evil_episode, write_bench, write_cell, write_episodes, write_run


@pytest.fixture
def bench(tmp_path):
    return write_bench(tmp_path / "bench")


def unpacked(path):
    found = re.search(r'id="data">([^<]*)</script>', path.read_text(encoding="utf-8"))
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def played(folder, *counts):
    """A data set with so many dialogues of agents a, b, ..."""
    episodes = [episode("abc"[k], seed, 0.5) for k, count in enumerate(counts) for seed in range(count)]
    return write_episodes(folder, episodes)


# --- what lies in the paths ----------------------------------------------------------------------


def test_folders_of_all_kinds_are_read(bench, tmp_path):
    write_run(tmp_path / "run")
    played(tmp_path / "data", 2, 1)
    (tmp_path / "evaluated.jsonl").write_text(json.dumps(episode("", 3, 0.5).to_json()) + "\n")
    found = read_sources([bench, tmp_path / "run", tmp_path / "data", tmp_path / "evaluated.jsonl"])
    whose = [(told.world, told.agent, told.run) for told in found.dialogues]
    assert whose.count(("Bargain", "td3", "4")) == 2, "of the run, whose seed is 4"
    assert whose.count(("Bargain", "td3", "0")) == whose.count(("Bargain", "ppo", "0")) == 4, "of the suite"
    assert (whose.count(("Bargain", "a", "")), whose.count(("Bargain", "b", ""))) == (2, 1)
    assert whose.count(("", "evaluated", "")) == 1
    assert len(whose) == found.found == 14
    assert [(one.agent, one.run, one.points) for one in found.curves] == [("td3", "4", ((100, 0.1), (200, 0.4)))]
    assert not found.broken
    assert not found.mixed


def test_runs_that_learned_nothing_are_told_apart_where_there_are_several(tmp_path):
    folder = tmp_path / "bench"
    cells = ("Bargain", "constant", (1, 2, 3)), ("Bargain", "lm", (1,)), ("Chat", "constant", (2,))
    for world, agent, seeds in cells:
        for seed in seeds:
            here = f"episodes/{world}--{agent}--{seed}"
            write_episodes(folder / here, [episode(agent, 5 + k, 0.1 * k) for k in range(4)])
            write_cell(folder, world, agent, seed, 0.5, episodes=here)
    (folder / "suite.json").write_text("{}")
    found = read_sources([folder], limit=10)
    whose = [(told.world, told.agent, told.run) for told in found.dialogues]
    runs = [("Bargain", "constant", "1"), ("Bargain", "constant", "2"), ("Bargain", "constant", "3")]
    assert whose == [one for one in (*runs, ("Bargain", "lm", ""), ("Chat", "constant", "")) for _ in range(2)]


def test_a_folder_of_folders_is_searched_and_nothing_is_read_twice(bench, tmp_path):
    write_run(tmp_path / "runs" / "one")
    again = read_sources([tmp_path, bench, tmp_path / "runs"])
    assert len(again.dialogues) == read_sources([bench, tmp_path / "runs" / "one"]).found == 10
    assert len(again.curves) == 1


def test_what_is_broken_is_named_and_left_out(bench, tmp_path):
    (bench / "cells" / "Chat--sac--0.json").write_text('{"config": ')
    run = write_run(tmp_path / "run")
    lines = run / "episodes" / "agent.jsonl"
    short = episode("", 9, 0.5).to_json() | {"rewards": [1.0]}
    lines.write_text(lines.read_text() + '{"seed": 1}\n' + json.dumps(short) + "\n")
    data = played(tmp_path / "data", 3)
    (journal,) = data.glob("journal-*.jsonl")
    journal.write_text(journal.read_text().replace("ten coins", "six coins", 1))
    found = read_sources([bench, run, data])
    assert len(found.broken) == 4
    told = "\n".join(found.broken)
    for place in (
        "Chat--sac--0.json",
        "agent.jsonl, line 3",
        "agent.jsonl, line 4: expected a number for each",
        "data",
    ):
        assert place in told
    assert len(found.dialogues) == 10


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("metrics.jsonl", '{"step": 300, "eval/return": NaN}', "a finite mean return at step 300, got nan"),
        ("metrics.jsonl", '{"step": Infinity, "eval/return": 1.0}', "infinity"),
        ("metrics.jsonl", DEEP, "recursion"),
        ("episodes/agent.jsonl", DEEP, "recursion"),
        ("episodes/agent.jsonl", json.dumps(episode("", 9, 0.5).to_json() | {"seed": float("inf")}), "infinity"),
        ("episodes/agent.jsonl", json.dumps(episode("", 9, 0.5).to_json() | {"rewards": [0, 10**400]}), "as rewards"),
    ],
)
def test_lines_of_a_run_that_cannot_be_shown_are_named(tmp_path, name, text, why):
    run = write_run(tmp_path / "run")
    with open(run / name, "a") as file:
        lines = len((run / name).read_text().splitlines())
        file.write(text + "\n")
    found = read_sources([run])
    page.as_html(payload(found, "t"))
    (told,) = found.broken
    assert told.startswith(f"{run / name}, line {lines + 1}: ")
    assert why in told
    assert len(found.dialogues) == 2
    assert found.curves[0].points == ((100, 0.1), (200, 0.4))


@pytest.mark.parametrize("text", [DEEP, '[{"torch": ["a"]}]', '[{"torch": 5}]', "[]"])
def test_versions_that_cannot_be_read_are_versions_of_their_own(bench, tmp_path, text):
    run = write_run(tmp_path / "run")
    (run / "versions.json").write_text(text)
    with pytest.raises(ValueError, match="versions unknown and unreadable in"):
        read_sources([bench, run])


def test_of_many_broken_lines_the_first_are_named_and_the_others_counted(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json\n" * 1000)
    with pytest.raises(ValueError, match=r"line 3: .*; 1 more$") as error:
        read_sources([bad])
    assert "line 4" not in str(error.value)
    bad.write_text(bad.read_text() + json.dumps(episode("", 3, 0.5).to_json()) + "\n")
    found = read_sources([bad])
    assert len(found.dialogues) == 1
    assert found.broken[3:] == [f"{bad}: 997 more like these"]


@pytest.mark.parametrize("name", ["suite.json", "cells/Chat--td3--0.json"])
def test_a_file_of_a_folder_of_results_is_recognised(bench, monkeypatch, name):
    with pytest.raises(ValueError, match="left out") as error:
        read_sources([bench / name])
    told = f"expected dialogues, got one file of a folder of results; give that folder, {bench}"
    assert str(error.value).endswith(f"{name}: {told}")
    monkeypatch.chdir((bench / name).parent)
    with pytest.raises(ValueError, match=re.escape(told)):
        read_sources([(bench / name).name])


@pytest.mark.parametrize("text", [None, "{"])
def test_cells_without_a_readable_suite_are_shown_and_that_is_told(bench, tmp_path, text):
    (bench / "suite.json").unlink() if text is None else (bench / "suite.json").write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "suite.json").write_text("{")
    found = read_sources([bench, tmp_path / "empty"])
    assert found.results is not None
    assert len(found.results.results) == 19
    assert len(found.dialogues) == 8
    assert len(found.broken) == 2
    assert all("suite.json" in told for told in found.broken)


def test_of_a_damaged_data_set_what_stands_before_the_damage_is_read(tmp_path):
    rows = [episode("a", seed, 0.5) for seed in range(6)]
    with Episodes.writing(tmp_path / "data", shard_rows=2) as writer:
        writer.extend(rows)
    shard = tmp_path / "data" / "shard-000001.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:4] + bytes(400) + content[404:])
    found = read_sources([tmp_path / "data"])
    assert [told.episode.seed for told in found.dialogues] == [0, 1]
    (broken,) = found.broken
    assert "shard-000001.parquet cannot be read" in broken
    assert broken.endswith("; the 2 episodes before that are read")


def test_different_versions_are_refused_unless_asked_for(bench, tmp_path):
    run = write_run(tmp_path / "run", versions={"python": "3.12"})
    with pytest.raises(ValueError, match=r"different versions.*python 3\.11 and 3\.12.*--mixed"):
        read_sources([bench, run])
    assert read_sources([bench, run], mixed=True).mixed == ("python 3.11 and 3.12",)
    write_cell(bench, "Chat", "sac", 0, 0.5, versions={"python": "3.10"})
    with pytest.raises(ValueError, match=r"python 3\.10 and 3\.11"):
        read_sources([bench])


def test_a_cell_of_other_versions_does_not_hide_behind_the_first(bench, tmp_path):
    write_cell(tmp_path / "other", "Chat", "td3", 0, 0.5, versions={"python": "3.12"})
    with pytest.raises(ValueError, match=r"python 3\.11 and 3\.12"):
        read_sources([bench, tmp_path / "other"])
    found = read_sources([bench, tmp_path / "other"], mixed=True)
    assert found.mixed == ("python 3.11 and 3.12",)
    assert any("is the same cell with other content" in told for told in found.broken)


def test_runs_of_different_settings_are_refused_unless_asked_for(bench, tmp_path):
    cell = write_bench(tmp_path / "other") / "cells" / "Bargain--ppo--0.json"
    told = json.loads(cell.read_text())
    told["config"] |= {"cell": told["config"]["cell"] | {"seed": 9}, "args": {"steps": 9}}
    (bench / "cells" / "Bargain--ppo--9.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"settings of ppo in Bargain"):
        read_sources([bench])
    assert read_sources([bench], mixed=True).mixed == ("settings of ppo in Bargain",)


def test_nothing_to_show_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no results and no dialogues in .*empty"):
        read_sources([tmp_path / "empty"])
    (tmp_path / "bad.jsonl").write_text("no json\n")
    with pytest.raises(ValueError, match=r"left out: .*bad\.jsonl, line 1"):
        read_sources([tmp_path / "bad.jsonl"])
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        read_sources([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="at least one folder"):
        read_sources([])
    with pytest.raises(ValueError, match="limit must be"):
        read_sources([tmp_path], limit=-1)


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(0, (10, 3, 1)), (9, (5, 3, 1)), (6, (2, 2, 1)), (3, (1, 1, 1)), (1, (1, 1, 1)), (100, (10, 3, 1))],
)
def test_the_limit_takes_about_as_many_of_each_agent(tmp_path, limit, shown):
    found = read_sources([played(tmp_path / "data", 10, 3, 1)], limit=limit)
    agents = [told.agent for told in found.dialogues]
    assert tuple(map(agents.count, "abc")) == shown
    assert found.found == 14
    assert payload(found, "t")["notes"]["left_out"] == 14 - sum(shown)
    seeds = [told.episode.seed for told in found.dialogues if told.agent == "a"]
    assert seeds == list(range(shown[0])), "the first ones, which agents have in common"


# --- what the page is told -------------------------------------------------------------------------


def test_numbers_of_turns_say_nothing_twice(tmp_path):
    (told,) = read_sources([write_episodes(tmp_path, [episode("a", 1, 0.5)])]).dialogues
    assert per_turn(told) == {
        "reward": [0.0, 0.5],
        "term: style": [0.25, -0.25],  # the term "deal" is the reward itself
        "signal: affect": [-1.0, 0.5],
    }


def test_dialogues_share_their_scenario_and_keep_long_seeds(tmp_path):
    rows = [episode("a", 2**60 + 1, 0.5), episode("b", 2**60 + 1, -0.5), episode("a", 1, 0.5)]
    told = payload(read_sources([write_episodes(tmp_path, rows)]), "t")
    assert [row["scenario"] for row in told["dialogues"]] == [0, 1, 0]
    assert {row["seed"] for row in told["dialogues"]} == {"1152921504606846977", "1"}
    assert told["scales"]["Bargain"]["reward"] == pytest.approx(0.5)


def test_summary_counts_by_hand(tmp_path):
    rows = [episode("a", 1, 1.0), episode("a", 2, 0.0), episode("b", 1, 0.5)]
    first, second = payload(read_sources([write_episodes(tmp_path, rows)]), "t")["summary"]
    assert (first["agent"], first["dialogues"], first["return"][0], first["success"][0]) == ("a", 2, 0.5, 0.5)
    assert (second["return"], second["turns"]) == ([0.5, None, None], [2, None, None]), "one dialogue, no interval"


def test_the_board_has_the_scores_of_the_leaderboard(bench):
    told = board(read_sources([bench]).results, [])
    assert told is not None
    overall = {row["agent"]: row for row in told["overall"]}
    assert told["agents"][:2] == ["oracle", "td3"], "the best first"
    assert overall["oracle"]["iqm"][0] == pytest.approx(1.0)
    # runs of td3 score .8, .84, .88 in Bargain (.02 of a range of .5) and .8, .825, .85 in Chat (of .8): the middle
    assert 0.8 < overall["td3"]["iqm"][0] < 0.88
    assert overall["td3"]["mean"][0] == pytest.approx((0.84 + 0.825) / 2)
    assert (overall["dpo"]["worlds"], overall["dpo"]["of"]) == (1, 2)
    cells = {(cell["agent"], cell["world"]): cell for cell in told["cells"]}
    assert cells["dpo", "Chat"]["status"] == "not applicable"
    assert cells["dpo", "Chat"]["score"] is None, "never zero"
    assert cells["td3", "Bargain"]["return"][0] == pytest.approx(0.62)
    assert cells["ppo", "Chat"]["missing"] == 1
    assert {curve["world"] for curve in told["curves"]} == {"All environments", "Bargain", "Chat"}
    notes = {curve["note"] for curve in told["curves"]}
    assert notes == {"return on training items, scaled by lm and oracle on held-out ones"}
    assert told["profiles"]["agents"][0]["value"][0] == 1.0
    duels = {(duel["agent"], duel["other"]): duel for duel in told["duels"]}
    assert duels["oracle", "td3"] == {"agent": "oracle", "other": "td3", "better": [1.0, None, None], "worlds": 2}


def test_the_notes_are_those_of_the_markdown(bench):
    results = read_sources([bench]).results
    assert results is not None
    told = board(results, [])
    assert told is not None
    assert any("bootstrap is too narrow" in line for line in told["notes"]), "dpo has a score in Bargain alone"
    assert told["reasons"] == ["Not applicable in Chat: `dpo` (it learns from rankings, and there are none)."]
    lines = summary_of(leaderboard(results)).splitlines()
    assert {f"- {line}" for line in (*told["notes"], *told["reasons"])} <= set(lines)


def test_runs_alone_have_curves_and_no_table(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text(
        '{"agent": "td3", "args": {"env": "dialog_gym/Bargain-v0", "seed": 5}}'
    )
    told = board(None, read_sources([tmp_path]).curves)
    assert told is not None
    assert [curve["agent"] for curve in told["curves"]] == told["agents"] == ["td3, run 4", "td3, run 5"]
    assert told["curves"][0]["value"] == [0.1, 0.4]
    assert told["curves"][0]["note"] == "", "as they are"
    assert not told["overall"]
    assert board(None, []) is None


@given(st.text())
def test_clean_texts_hold_nothing_that_cannot_be_seen(text):
    assert all(char.isprintable() or char == "\n" for char in clean(text))


@given(st.dictionaries(st.text(), st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text())))
def test_clean_values_can_be_packed(values):
    told = {name: clean(value) for name, value in {"data": values}.items()}
    assert json.loads(gzip.decompress(base64.b64decode(page.packed(told)))) == told


# --- the file ----------------------------------------------------------------------------------------


def test_the_file_needs_nothing_else_and_allows_nothing_else(bench, tmp_path):
    html = page.as_html(payload(read_sources([bench]), "A <b>title</b> @data@"))
    assert "<title>A &lt;b&gt;title&lt;/b&gt; @data@</title>" in html
    addresses = set(re.findall(r"""https?://[^\s"'<]+""", html))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a format, which nobody fetches"
    assert not re.search(r"<(?:script|img|iframe|object|embed)[^>]*\ssrc|@import|url\(", html)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none'; ")
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.S)
        assert f"{kind} 'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert html.count("<script") == html.count("</script>") == 2


def test_no_text_of_a_dialogue_stands_in_the_file_as_such(tmp_path):
    rows = [evil_episode(text, seed) for seed, text in enumerate(EVIL)]
    sources = read_sources([write_episodes(tmp_path, rows)])
    html = page.as_html(payload(sources, EVIL[0]))
    assert html.count("<script") == html.count("</script>") == 2
    assert "hacked" not in html.replace("&lt;/script&gt;&lt;script&gt;window.hacked", "")
    assert html == page.as_html(payload(sources, EVIL[0])), "the same input gives the same file"


def test_scripts_make_no_markup_of_texts():
    script = "".join(map(page._file, page.SCRIPTS))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser", script
    )


def test_only_a_report_is_written_over(tmp_path):
    told, path = payload(Sources(), "t"), tmp_path / "sub" / "report.html"
    size = page.write_page(path, told)
    assert path.stat().st_size == size
    page.write_page(path, told)
    path.write_text("my novel")
    with pytest.raises(FileExistsError, match=r"is no report; add --overwrite"):
        page.write_page(path, told)
    assert path.read_text() == "my novel"
    assert page.write_page(path, told, overwrite=True) == size
    with pytest.raises(FileExistsError, match="is a folder"):
        page.write_page(tmp_path, told, overwrite=True)


# --- the command -----------------------------------------------------------------------------------------


def run(*words):
    with pytest.raises(SystemExit) as left:
        main(["report", *map(str, words)])
    return left.value.code


def test_command(bench, tmp_path, capsys):
    out = tmp_path / "page.html"
    main(["report", str(bench), "--out", str(out), "--title", "Of the <week>", "--limit", "2", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["results"], told["dialogues"], told["dialogues_found"], told["broken"]) == (19, 2, 8, [])
    assert unpacked(out)["title"] == "Of the <week>"
    assert len(unpacked(out)["dialogues"]) == 2
    main(["report", str(bench), "--out", str(out)])
    assert capsys.readouterr().out.startswith(f"wrote {out} (")
    (bench / "cells" / "Chat--sac--0.json").write_text("{")
    main(["report", str(bench), "--out", str(out)])
    assert "Chat--sac--0.json" in capsys.readouterr().err


def test_command_refuses_before_it_reads_or_writes(bench, tmp_path, capsys):
    out = tmp_path / "novel.html"
    out.write_text("my novel")
    assert run(bench, "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--out", out / "below.html") == 2
    assert f"{out} is a file, so nothing can be written below it" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--out", tmp_path / "new.html") == 2
    assert "nowhere is not there" in capsys.readouterr().err
    write_cell(bench, "Chat", "sac", 0, 0.5, versions={"python": "3.10"})
    assert run(bench, "--out", tmp_path / "new.html") == 2
    assert "--mixed" in capsys.readouterr().err
    assert not (tmp_path / "new.html").exists()
    main(["report", str(bench), "--out", str(tmp_path / "new.html"), "--mixed"])
    assert unpacked(tmp_path / "new.html")["notes"]["mixed"] == ["python 3.10 and 3.11"]
