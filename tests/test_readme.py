"""What the README shows works as it stands."""

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def test_python_blocks_run_in_order(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    out = capsys.readouterr().out
    assert "buyer: Hello! Would you take $80?" in out
    assert "> buyer" in out


def test_every_id_in_the_readme_is_registered():
    import gymnasium as gym

    import dialog_gym  # noqa: F401 - registers

    for name in set(re.findall(r"dialog_gym/\w+-v\d+", README.read_text())):
        gym.spec(name)
