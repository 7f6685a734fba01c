"""Parts of a pool: what is held out stays held out, on every machine and in every version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.splits import in_split, part


@given(st.text())
def test_everything_is_in_one_part_and_in_the_whole(key):
    assert in_split(key, "all")
    assert in_split(key, "train") != in_split(key, "heldout")


def test_the_parts_are_those_of_published_results():
    # The CRC-32 of these, and its last digit, are 3904355907, 1908338681, 112844655
    assert [key for key in "abc" if in_split(key, "heldout")] == ["a"]
    assert 0.68 < len(part(range(2000), "train", str, "numbers")) / 2000 < 0.72


def test_what_is_refused():
    with pytest.raises(ValueError, match="split must be one of 'all', 'train', 'heldout', got 'test'"):
        in_split("a", "test")
    with pytest.raises(ValueError, match="expected letters in split 'train', got none; give a larger file"):
        part(["a"], "train", str, "letters")
