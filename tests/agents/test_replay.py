"""Every stored row can be drawn, n-step returns stop where they must, files come back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dialog_gym.agents.replay import ReplayBuffer


def filled(count, capacity=100, *, rows=1, ends=None):
    """Transition i: observation i, action i / 10, reward 2**i (exact sums), next observation i + 1."""
    buffer = ReplayBuffer(capacity, 1, 1, rows=rows)
    ends = [0] * count if ends is None else ends
    for start in range(0, count, rows):
        i = np.arange(start, start + rows)
        end = np.array(ends[start : start + rows])
        buffer.add(i[:, None], i[:, None] / 10, 2.0 ** (i % 20), i[:, None] + 1, end == 1, end == 2)
    return buffer


def draw(buffer, count=4000, gamma=0.5, **settings):
    batch = buffer.sample(count, torch.Generator().manual_seed(0), gamma=gamma, **settings)
    return {
        int(o): (float(r), float(d), int(f)) for o, f, r, d in zip(batch[0], batch[1], batch[3], batch[4], strict=True)
    }


@pytest.mark.parametrize("count", [1, 7, 10, 11, 13, 25])
def test_all_stored_transitions_can_be_drawn_and_no_others(count):
    assert set(draw(filled(count, 10))) == set(range(max(0, count - 10), count))


def test_wrapping_in_the_middle_of_a_step_of_all_rows():
    assert set(draw(filled(12, 10, rows=4))) == set(range(2, 12))


def test_terminated_does_not_bootstrap_and_truncated_does():
    got = draw(filled(3, ends=[0, 1, 2]))
    assert got == {0: (1, 0.5, 1), 1: (2, 0, 2), 2: (4, 0.5, 3)}


def test_cut_dialogues_may_count_as_over():
    got = draw(filled(4, ends=[0, 1, 2, 0]), cut_ends=True)
    assert got == {0: (1, 0.5, 1), 1: (2, 0, 2), 2: (4, 0, 3), 3: (8, 0.5, 4)}
    assert draw(filled(3, ends=[0, 2, 0]), n_step=3, cut_ends=True)[0] == (1 + 1, 0, 2)


def test_a_row_that_both_terminated_and_was_cut_counts_as_terminated():
    buffer = ReplayBuffer(1, 1, 1)
    buffer.add([[0.0]], [[0.0]], [1.0], [[1.0]], [True], [True])
    assert draw(buffer) == {0: (1, 0, 1)}


def dialogues(buffer, count=400):
    whole = buffer.whole(count, torch.Generator().manual_seed(0))
    found = {}
    for seen, used, total in zip(whole.observations[..., 0], whole.used, whole.returns, strict=True):
        found[tuple(sorted(seen[used > 0].int().tolist()))] = total.item()
    return found


def test_whole_dialogues_by_hand():
    # Rewards 1 2 4 8 16 32; dialogues 0-2 (terminated) and 3-4 (cut short), 5 goes on.
    ends = [0, 0, 1, 0, 2, 0]
    assert dialogues(filled(6, ends=ends)) == {(0, 1, 2): 7, (3, 4): 24}
    assert dialogues(filled(6, 4, ends=ends)) == {(3, 4): 24, (): 0}  # of the first only its last step is left
    assert dialogues(filled(6, 3, ends=ends)) == {(): 0}
    assert filled(2).whole(3, torch.Generator()) is None


@given(
    rows=st.integers(1, 3),
    steps=st.integers(1, 10),
    capacity=st.integers(3, 20),
    ends=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=30, max_size=30),
)
def test_whole_dialogues_are_those_of_walking_each_row(rows, steps, capacity, ends):
    count, held = rows * steps, set(range(max(0, rows * steps - capacity), rows * steps))
    expected = {}
    for row in range(rows):
        steps_of = []
        for place in range(row, count, rows):
            steps_of.append(place)
            if ends[place]:
                expected[tuple(steps_of)] = sum(2.0 ** (i % 20) for i in steps_of)
                steps_of = []
    buffer = filled(count, capacity, rows=rows, ends=ends)
    if buffer.whole(1, torch.Generator()) is None:
        assert not any(max(places) in held for places in expected)
        return
    found = dialogues(buffer)
    found.pop((), None)
    assert all(expected[places] == total and set(places) <= held for places, total in found.items())
    assert set(found) >= {places for places in expected if min(places) - rows in held or count < capacity}


def test_n_step_returns_by_hand():
    # Rewards 1 2 4 8 16; the dialogue terminates at 2; 3 and 4 are newest. gamma .5, three steps.
    got = draw(filled(5, ends=[0, 0, 1, 0, 0]), n_step=3)
    assert got[0] == (1 + 1 + 1, 0, 3)
    assert got[1] == (2 + 2, 0, 3)
    assert got[2] == (4, 0, 3)
    assert got[3] == (8 + 8, 0.25, 5)
    assert got[4] == (16, 0.5, 5)


def test_n_step_returns_bootstrap_after_a_cut():
    assert draw(filled(3, ends=[0, 2, 0]), n_step=3)[0] == (1 + 1, 0.25, 2)


@given(
    rows=st.integers(1, 3),
    steps=st.integers(1, 12),
    capacity=st.integers(3, 20),
    n_step=st.integers(1, 4),
    ends=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=36, max_size=36),
)
def test_n_step_returns_are_those_of_walking_each_dialogue(rows, steps, capacity, n_step, ends):
    count = rows * steps
    got = draw(filled(count, capacity, rows=rows, ends=ends), 400, n_step=n_step)
    for first, found in got.items():
        total, discount, at = 0.0, 1.0, first
        for step in range(n_step):
            total += discount * 2.0 ** (at % 20)
            discount *= 0.5
            if ends[at] or at + rows >= count or step == n_step - 1:
                break
            at += rows
        assert found == (total, 0.0 if ends[at] == 1 else discount, at + 1)


def test_memory_is_what_the_documentation_says():
    buffer = ReplayBuffer(1000, 96, 16)
    assert buffer.nbytes == 4 * 1000 * (2 * 96 + 16 + 2)
    with torch.device("meta"):  # the published sizes, without the memory
        assert ReplayBuffer(10**6, 4096, 64).nbytes == 33_032_000_000
        assert ReplayBuffer(80_000, 4096, 128).nbytes == 2_663_040_000


def test_a_file_that_fills_the_buffer_leaves_it_usable(tmp_path):
    filled(10).save(tmp_path / "b.safetensors")
    buffer = ReplayBuffer.load(tmp_path / "b.safetensors")
    assert len(buffer) == buffer.capacity == 10
    buffer.add([[10.0]], [[0.0]], [0.0], [[0.0]], [False], [False])
    assert set(draw(buffer)) == set(range(1, 11))


@pytest.mark.parametrize("count", [6, 14])
def test_save_and_load_keep_order_and_ends(tmp_path, count):
    ends = [0, 1, 0, 2, 0, 0, 1] * 2
    buffer = filled(count, 10, rows=2, ends=ends)
    buffer.save(tmp_path / "b.safetensors")
    loaded = ReplayBuffer.load(tmp_path / "b.safetensors", capacity=12)
    assert (loaded.rows, loaded.capacity) == (2, 12)
    assert draw(loaded, n_step=3) == draw(buffer, n_step=3)


def columns(count=4):
    wide = np.zeros((count, 3), dtype=np.float32)
    flat = np.zeros(count, dtype=np.float32)
    return {
        "observations": wide, "next_observations": wide, "actions": wide[:, :2], "rewards": flat, "terminals": flat,
    }  # fmt: skip


def test_arrays_from_elsewhere_are_taken(tmp_path):
    save_file(columns(), tmp_path / "b.safetensors")
    buffer = ReplayBuffer.load(tmp_path / "b.safetensors")
    assert (len(buffer), buffer.observation_size, buffer.action_size, buffer.rows) == (4, 3, 2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("rewards"), "no array 'rewards'"),
        (lambda c: c.update(actions=np.zeros((3, 2), np.float32)), r"'actions' of shape \(4, 2\).*got \(3, 2\)"),
        (lambda c: c.update(observations=np.zeros(4, np.float32)), "observations' of shape"),
        (lambda c: c.update(rewards=np.array([0, 0, np.nan, 0], np.float32)), "'rewards' has a NaN.* in row 2"),
        (lambda c: c.update({name: array[:0] for name, array in c.items()}), "at least one row"),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, message):
    arrays = columns()
    change(arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=message):
        ReplayBuffer.load(tmp_path / "b.safetensors")


def test_other_files_and_too_many_rows_are_refused(tmp_path):
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        ReplayBuffer.load(tmp_path / "b.pkl")
    with pytest.raises(ValueError, match="cannot read the buffer"):
        ReplayBuffer.load(tmp_path / "missing")
    filled(10).save(tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="holds 10 transitions, the buffer only 9"):
        ReplayBuffer.load(tmp_path / "b.safetensors", capacity=9)
    with pytest.raises(ValueError, match="at least one step of the 3 rows"):
        ReplayBuffer(2, 1, 1, rows=3)
