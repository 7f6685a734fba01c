"""Files of every wrapping give the same records, damaged ones say where, and nothing is held in memory."""

import gzip
import json
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data.corpora.files import CorpusError, Source
from dialog_gym.data.corpora.json_stream import JsonStream

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def until_error(items):
    """Return what comes before an error, and the error."""
    found = []
    try:
        for item in items:
            found.append(item)
    except Exception as error:
        return found, error
    return found, None


def pieces(text, size):
    return iter([text[start : start + size] for start in range(0, len(text), size)])


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=5), st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_parts_of_an_array_are_those_that_json_sees(values, size, ascii_only, indent):
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    assert [json.loads(part) for _, part in JsonStream(pieces(text, size)).array()] == values


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.integers(1, 9))
def test_members_of_an_object_are_those_that_json_sees(values, size):
    found = {key: json.loads(part) for key, part in JsonStream(pieces(json.dumps(values), size)).members()}
    assert found == values


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=4), st.data())
def test_what_stands_before_a_cut_is_read_and_then_an_error(values, data):
    text = json.dumps(values)
    cut = data.draw(st.integers(0, len(text) - 1))
    found, error = until_error(part for _, part in JsonStream(pieces(text[:cut], 3)).array())
    assert isinstance(error, ValueError)
    whole = [json.dumps(value) for value in values]
    assert found == whole[: len(found)] or found[:-1] == whole[: len(found) - 1]  # a number may be cut: 12 of 123
    assert len(text) - cut > 1 or len(found) == len(values)


RECORDS = [{"id": f"d{n}", "text": "ä" * n} for n in range(5)]


def packed(folder, name, data):
    """Write ``data`` plain, as .gz, as .zip and in a folder, and return the four paths."""
    (folder / "in").mkdir()
    (folder / "in" / name).write_bytes(data)
    (folder / name).write_bytes(data)
    (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.writestr(f"inside/{name}", data)
    return [folder / name, folder / f"{name}.gz", folder / f"{name}.zip", folder / "in"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", json.dumps(RECORDS, ensure_ascii=False)),
        ("a.json", "\n".join(json.dumps(record) for record in RECORDS)),
        ("a.jsonl", "\n\n".join(json.dumps(record) for record in RECORDS)),
        ("a.csv", "id,text\r\n" + "".join(f'{r["id"]},"{r["text"]}"\r\n' for r in RECORDS)),
        ("a.tsv", "\ufeffid\ttext\n" + "".join(f"{r['id']}\t{r['text']}\n" for r in RECORDS)),
    ],
)
def test_every_wrapping_gives_the_same_records(tmp_path, name, data):
    for path in packed(tmp_path, name, data.encode()):
        assert [record for _, record in Source(path).rows()] == RECORDS, path


def test_numbers_go_on_over_files_and_messages_name_the_place(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(RECORDS))
    source = Source(tmp_path)
    assert [number for number, _ in source.json_array()] == list(range(10))
    assert source.place(6, "d1") == f"{tmp_path}/b.json, record 2 (d1)"


def bad(path, read, **kwargs):
    """Return what is read before the error, the error, and what is read and skipped with skip_bad."""
    found, error = until_error(read(Source(path, **kwargs)))
    assert isinstance(error, CorpusError)
    skipping = Source(path, skip_bad=True, **kwargs)
    return found, str(error), list(read(skipping)), skipping


def test_a_cut_gz_is_read_to_the_cut(tmp_path):
    records = [{"id": number, "text": f"{number * 7919:x}" * 40} for number in range(2000)]
    data = gzip.compress(json.dumps(records).encode())
    path = tmp_path / "cut.json.gz"
    path.write_bytes(data[: len(data) // 2])
    before, message, rest, source = bad(path, Source.json_array)
    assert [value for _, value in before] == records[: len(before)]
    assert 500 < len(before) < 1500
    assert f"cut.json.gz, record {len(before) + 1}: expected" in message
    assert rest == before
    assert source.skipped == 1


def test_a_cut_array_is_read_to_the_cut(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(RECORDS)[:-30])
    before, message, rest, source = bad(path, Source.json_array)
    assert [value for _, value in before] == RECORDS[:4]
    assert "record 5" in message
    assert "not closed before the end of the file" in message
    assert (rest, source.skipped) == (before, 1)


def test_after_a_bad_record_the_next_is_read(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('[{"a": 1}, {"a": 2,}, {"a": 3}]')
    before, message, rest, source = bad(path, Source.json_array)
    assert before == [(0, {"a": 1})]
    assert "bad.json, record 2: expected JSON" in message
    assert "--skip-bad" in message
    assert rest == [(0, {"a": 1}), (2, {"a": 3})]
    assert source.bad[0].startswith(str(path))


def test_another_encoding_is_told_in_the_record_where_it_shows(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("id,text\n1,plain\n2,caf\xe9\n3,plain\n".encode("latin-1"))
    _, message, rest, source = bad(path, Source.csv)
    assert "latin.csv, row 2" in message
    assert "byte 0xe9 after 'caf' is no utf-8" in message
    assert [row["id"] for _, row in rest] == ["1", "3"]
    assert source.skipped == 1
    assert [row["text"] for _, row in Source(path, encoding="latin-1").csv()][1] == "café"


def test_what_never_ends_is_not_read_into_memory(tmp_path, monkeypatch):
    for module in ("files", "json_stream"):
        monkeypatch.setattr(f"dialog_gym.data.corpora.{module}.LONGEST", 200_000)
    (tmp_path / "a.json").write_text('[1, {"a": "' + "x" * 900_000)
    before, message, rest, _ = bad(tmp_path / "a.json", Source.json_array)
    assert before == rest == [(0, 1)]
    assert "not closed within 200000 characters" in message
    (tmp_path / "a.jsonl").write_text('1\n"' + "x" * 900_000)
    before, message, rest, _ = bad(tmp_path / "a.jsonl", Source.rows)
    assert before == rest == [(0, 1)]
    assert "a line is longer than 200000 characters" in message


def test_utf_16_is_recognised(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(RECORDS).encode("utf-16"))
    assert "begins like UTF-16" in bad(path, Source.json_array)[1]
    assert [value for _, value in Source(path, encoding="utf-16").json_array()] == RECORDS


def test_rows_with_too_many_cells_and_open_quotes_are_bad(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n1,2,3\n4\n"' + "x" * 200_000 + "\n")
    _, message, rest, source = bad(path, Source.csv)
    assert "row 2" in message
    assert "the heading has 2 columns (a, b), the row 3" in message
    assert [row for _, row in rest] == [{"a": "1", "b": "2"}, {"a": "4"}]
    assert "is a quote left open?" in source.bad[1]


def test_cells_may_have_line_ends(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('a,b\r\n"one\r\ntwo\u2028three",2\r\n'.encode())
    assert [row for _, row in Source(path).csv()] == [{"a": "one\r\ntwo\u2028three", "b": "2"}]


@pytest.mark.parametrize("data", [b"PK\x03\x04 and no more", b"no archive"])
def test_a_damaged_zip_says_so(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.zip: expected a zip archive, got a damaged or other file"):
        list(Source(tmp_path / "a.zip").json_array())


def test_splits_are_found_in_names_of_files_and_folders(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dialogues_001.json").write_text(json.dumps([name]))
    (tmp_path / "x.test.json.gz").write_bytes(gzip.compress(b'["test"]'))

    def of(split):
        return [value for _, value in Source(tmp_path, split=split).json_array("*.json")]

    assert (of("train"), of("validation"), of("dev"), of("test")) == (["train"], ["dev"], ["dev"], ["test"])
    assert of("") == ["dev", "train", "test"]
    with pytest.raises(ValueError, match="split must be 'train', 'validation', 'test'"):
        of("held")
    (tmp_path / "x.test.json.gz").unlink()
    with pytest.raises(CorpusError, match=r"wanted \*\.json of split 'test', got dev/dialogues_001\.json"):
        of("test")


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder '.*nothing\.json'"):
        Source(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="expected an encoding that Python knows"):
        Source(tmp_path, encoding="utf-99")


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "long.json.gz"
    record = json.dumps({"text": "word " * 200})
    with gzip.open(path, "wt") as file:
        file.write("[" + ",\n".join([record] * 20_000) + "]")  # 20 MB
    tracemalloc.start()
    assert sum(1 for _ in Source(path).json_array()) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
