import json

import pytest
from rich.console import Console

from dialog_gym.benchmarks import data
from dialog_gym.benchmarks.data import Settings


def test_every_figure_is_measured(capsys):
    settings = Settings(episodes=20, states=4, k=3, plays=2, minari=3, repeats=2, kills=1)
    report = data.measure(settings)
    json.dumps(report)
    assert all(rate["wall"] > 0 and rate["rows"] > 0 for rate in report["rates"].values())
    assert {"collect", "branch", "write", "read", "minari", "export to JSON lines"} <= report["rates"].keys()
    assert report["rates"]["play-outs of branch"]["rows"] == 4 * 3 * 2
    assert report["kills"]["kills"] == report["kills"]["readable"] == 1
    data.show(report, Console())
    assert "1 writers killed" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [{"episodes": 0}, {"k": 1}, {"kills": -1}])
def test_what_cannot_be_measured(bad):
    with pytest.raises(ValueError, match="k must be at least 2"):
        Settings(**bad)
