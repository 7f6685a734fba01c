"""The embedded models with wider attention heads: the same functions, in a shape that vLLM's CPU attention has.

A head of the embedded models has 24 numbers; vLLM's attention on CPUs starts at 32. Zeros in the added rows and
columns change nothing if the rest makes up for what depends on the width of a head:

* scores are divided by the root of the width, so queries are multiplied by sqrt(32 / 24);
* rotary embeddings turn entry i of a head together with entry i + width / 2, so each half is padded for itself;
* they turn it by position * theta ** (-2 i / width), so theta becomes theta ** (32 / 24).
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from dialog_gym.lm import WEIGHTS

WIDTH = 32


def widen(name: str, folder: Path, positions: int) -> Path:
    """Write the embedded model ``name`` with heads of ``WIDTH`` into ``folder``, in float32, and return that.

    It may read ``positions`` tokens, more than it was trained on, since a judge's question is long.
    """
    shutil.copytree(WEIGHTS / name, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    narrow, heads = config["head_dim"], config["num_attention_heads"]
    assert config["num_key_value_heads"] == heads, "as many keys as queries"
    assert narrow < WIDTH, f"heads of {narrow} are wide enough: use the model as it is"
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    for key, tensor in tensors.items():
        weight = tensor.float()
        if key.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            weight = _padded(weight, heads)
        if key.endswith("q_proj.weight"):
            weight = weight * math.sqrt(WIDTH / narrow)
        if key.endswith("o_proj.weight"):
            weight = _padded(weight.T, heads).T.contiguous()
        tensors[key] = weight
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    rope = config["rope_parameters"]
    rope["rope_theta"] = rope["rope_theta"] ** (WIDTH / narrow)
    changed = {"head_dim": WIDTH, "dtype": "float32", "max_position_embeddings": positions}
    (folder / "config.json").write_text(json.dumps({**config, **changed}, indent=2))
    return folder


def _padded(weight: Tensor, heads: int) -> Tensor:
    """Put zeros behind each half of each head's rows; (heads * narrow, d) becomes (heads * WIDTH, d)."""
    halves = weight.view(heads, 2, -1, weight.shape[1])
    wide = torch.zeros(heads, 2, WIDTH // 2, weight.shape[1])
    wide[:, :, : halves.shape[2]] = halves
    return wide.view(heads * WIDTH, -1)
