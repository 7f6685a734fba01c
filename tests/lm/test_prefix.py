"""Prefix maps: the exact checks of the paper's mappings, and that a map stays with its model."""

import json

import numpy as np
import pytest
import torch

from dialog_gym.lm import load_prefix
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.prefix import CloneMap, PcaMap, PrefixMap, SteerMap
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.lm.models import llama, lm, tokenizer
from tests.lm.test_session import assert_close, chat

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (5, 6)).astype(np.float32)
STATES = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)


def maps() -> list[PrefixMap]:
    table = lm().embedding_matrix
    return [
        PcaMap.of(table, 6, 3),
        PcaMap.of(table, 6, 3, distinct=True),
        SteerMap.new(table, 6, 3, seed=1),
        CloneMap.new(table, torch.from_numpy(STATES), 6, 3, "start", reach=2.0, seed=1),
    ]


@pytest.mark.parametrize("made", maps(), ids=lambda m: m.kind)
def test_a_map_gives_prefixes_and_round_trips(made, tmp_path):
    prefix = made(ACTIONS, STATES)
    assert prefix.shape == (5, 3, 32)
    made.bind(lm()).save(tmp_path)
    back = PrefixMap.load(tmp_path, lm())
    assert type(back) is type(made)
    assert (back.action_size, back.prefix_tokens, back.position) == (6, 3, made.position)
    assert torch.equal(back(ACTIONS, STATES), prefix)
    assert not back(ACTIONS, STATES).requires_grad
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prefix.json", "prefix.safetensors"]


def test_pca_rows_are_orthonormal_and_tokens_identical():
    made = PcaMap.of(lm().embedding_matrix, 6, 3)
    assert_close(made.components @ made.components.T, np.eye(6))
    prefix = made(ACTIONS, STATES)
    assert (prefix == prefix[:, :1]).all()
    assert_close(prefix[:, 0] @ made.components.T / made.scale, ACTIONS)


def test_pca_is_what_the_singular_vectors_are_with_settled_signs():
    table = lm().embedding_matrix
    rows = PcaMap.of(table, 6).components
    _, _, vectors = torch.linalg.svd(table - table.mean(0), full_matrices=False)
    assert_close((rows @ vectors[:6].T).abs(), np.eye(6))
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()
    assert torch.equal(rows, PcaMap.of(table, 6).components)


def test_a_random_pca_action_is_as_long_as_embeddings_are_apart():
    table = lm().embedding_matrix
    made = PcaMap.of(table, 16)
    actions = np.random.default_rng(0).uniform(-1, 1, (4000, 16))
    out = (made(actions, np.zeros((4000, 32)))[:, 0]).square().sum(1).mean()
    assert float(out) == pytest.approx(float((table - table.mean(0)).square().sum(1).mean()), rel=0.03)


def test_distinct_pca_tokens_have_components_of_their_own():
    made = PcaMap.of(lm().embedding_matrix, 6, 3, distinct=True)
    moved = made(ACTIONS, STATES) / made.scale
    assert_close(made.components @ made.components.T, np.eye(18))
    for token in range(3):
        assert_close(moved[:, token] @ made.components[6 * token : 6 * token + 6].T, ACTIONS)
    with pytest.raises(ValueError, match="needs 34 components, but embeddings have only 32"):
        PcaMap(32, 17, 2, distinct=True)


def test_clone_adds_the_action_before_w_and_has_different_tokens():
    made = CloneMap.new(lm().embedding_matrix, torch.from_numpy(STATES), 6, 3, reach=2.0, seed=1)
    prefix = made(ACTIONS, STATES)
    for token in range(1, 3):
        assert not torch.allclose(prefix[:, token], prefix[:, 0])
    code = made.planner((torch.from_numpy(STATES) - made.shift) / made.spread)
    wanted = (code + 2.0 * torch.from_numpy(ACTIONS)) @ made.up.weight.T + made.up.bias
    assert_close(prefix.detach(), wanted.view(5, 3, 32).detach())
    assert not torch.allclose(made(ACTIONS, STATES), made(ACTIONS, STATES + 1))


def test_steer_is_half_z_w_plus_the_mean_with_z_twice_the_action():
    table = lm().embedding_matrix
    made = SteerMap.new(table, 6, 3, seed=1)
    wanted = torch.from_numpy(ACTIONS) @ made.weight + table.mean(0).repeat(3)
    assert_close(made(ACTIONS, STATES).detach(), wanted.view(5, 3, 32).detach())
    made.embeddings(torch.ones(2, 6)).sum().backward()
    assert made.weight.grad is not None


def test_a_map_refuses_another_model(tmp_path):
    PcaMap.of(lm().embedding_matrix, 6).bind(lm()).save(tmp_path)
    other = llama()
    with torch.no_grad():
        other.model.embed_tokens.weight[3, 3] += 0.5
    with pytest.raises(ValueError, match="this pca prefix map belongs to another language model"):
        PrefixMap.load(tmp_path, TransformersLM(other, tokenizer()))
    half = TransformersLM(llama(dtype="bfloat16"), tokenizer())
    assert PrefixMap.load(tmp_path, half).kind == "pca"


def test_a_map_without_a_model_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"call bind\(lm\)"):
        PcaMap.of(lm().embedding_matrix, 6).save(tmp_path)


@pytest.mark.parametrize("damage", ["json", "format", "kind", "tensors", "missing", "shape"])
def test_damaged_maps_are_refused(damage, tmp_path):
    PcaMap.of(lm().embedding_matrix, 6).bind(lm()).save(tmp_path)
    about = json.loads((tmp_path / "prefix.json").read_text())
    if damage == "json":
        (tmp_path / "prefix.json").write_text("{")
    if damage in ("format", "kind"):
        (tmp_path / "prefix.json").write_text(json.dumps({**about, damage: "else"}))
    if damage == "tensors":
        (tmp_path / "prefix.safetensors").write_bytes(b"no")
    if damage == "missing":
        (tmp_path / "prefix.safetensors").unlink()
    if damage == "shape":
        about["settings"]["embedding_size"] = 31
        (tmp_path / "prefix.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"holds no prefix map|to describe a|is damaged"):
        PrefixMap.load(tmp_path, lm())


def test_maps_are_found_by_name(tmp_path):
    lm().model.save_pretrained(tmp_path)
    lm().tokenizer.save_pretrained(tmp_path)
    model = TransformersLM.from_pretrained(tmp_path, device="cpu")
    assert load_prefix("pca", model).action_size == 16
    with pytest.raises(ValueError, match=r"no prefix map 'steer'.*\(none\)"):
        load_prefix("steer", model)
    SteerMap.new(model.embedding_matrix, 6).bind(model).save(tmp_path / "steer")
    assert load_prefix("steer", model).action_size == 6
    assert load_prefix(str(tmp_path / "steer"), model).action_size == 6
    with pytest.raises(ValueError, match=r"no prefix map 'clone'.*\(steer\)"):
        load_prefix("clone", model)


@pytest.mark.parametrize(
    ("actions", "states"), [((5, 7), (5, 32)), ((5,), (5, 32)), ((5, 6), (4, 32)), ((5, 6), (5,))]
)
def test_wrong_shapes_are_refused(actions, states):
    for made in maps():
        with pytest.raises(ValueError, match=r"expected actions \(n, 6\) and n states"):
            made(np.zeros(actions), np.zeros(states))


@pytest.mark.parametrize("settings", [(0, 2, "end"), (4, 0, "end"), (4, 2, "middle")])
def test_impossible_maps_are_refused(settings):
    with pytest.raises(ValueError, match=r"at least 1|position must be one of"):
        SteerMap(32, *settings)


def test_actions_change_what_is_said():
    model, made = lm(), PcaMap.of(lm().embedding_matrix, 6)
    prompts = [chat(1)] * 5
    replies = model.generate(prompts, Sampling(8), prefixes=made(ACTIONS, model.embed(prompts)))
    assert len({reply.text for reply in replies}) > 1
