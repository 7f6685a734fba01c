"""What reports are made of in these tests: results, runs and dialogues, written as the library writes them."""

import json
from pathlib import Path

from dialog_gym.data import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Scenario

EVIL = (
    "</script><script>window.hacked=1;alert(1)</script>",
    '<img src="x" onerror="window.hacked=1;alert(2)">',
    "<!--<script>\u2028window.hacked=1\u2029",
    "\u202eright to left\u202c and \x00 nothing, \x1b[31mred\u200b",
    "'\"`${window.hacked=1}`{{window.hacked=1}} &lt;b&gt; &amp;",
    '<svg onload="window.hacked=1"><style>*{display:none}</style><base href="//evil">',
    "]]></title></textarea><iframe srcdoc='<script>parent.hacked=1</script>'>",
)


def episode(agent, seed, reward, *, env="dialog_gym/Bargain-v0", words="ten coins", success=None, costs=0.0, by=""):
    """A dialogue of two agent turns; the second earns ``reward``."""
    scenario = Scenario(
        f"A bargain number {seed}.", {"buyer": "Pay little.", "seller": "Secret: take 7."}, {"price": 7}
    )
    talk = Dialogue(scenario, ("buyer", "seller"), seed)
    talk = talk.said("buyer", "hello there").said("seller", "good day").said("buyer", f"I offer {words}")
    talk = talk.said("seller", "deal" if reward > 0 else "no")
    success = reward > 0 if success is None else success
    ended = Dialogue(scenario, talk.roles, seed, talk.turns, {"mood": "fair"}, "deal" if success else "left", success)
    terms = {"deal": (0.0, reward), "style": (0.25, -0.25)}
    return Recorded(
        seed, ended, (0.0, reward), (0.0, costs), terms, {}, {"affect": (-1.0, 0.5)}, env=env, policy=agent or by
    )


def evil_episode(text, seed=1):
    """A dialogue in which every text that a person or a model could have written is ``text``."""
    scenario = Scenario(text, {"me": text, "you": text}, {text: text})
    talk = Dialogue(scenario, ("me", "you"), seed).said("me", text).said("you", text)
    ended = Dialogue(scenario, talk.roles, seed, talk.turns, {text: [text]}, text, True)
    return Recorded(seed, ended, (1.0,), (0.0,), {text: (2.0,)}, {}, {text: (1.0,)}, env=f"x/{text}-v0", policy=text)


def write_episodes(folder, episodes):
    """Write a data set and return its folder."""
    with Episodes.writing(folder) as writer:
        writer.extend(episodes)
    return Path(folder)


def write_cell(folder, world, agent, seed, mean, *, versions=None, curve=(), learned="", cost=0.0, episodes=""):
    """Write one result as ``dialog-gym bench`` does; the returns are ``mean`` and .1 around it."""
    cell = {"env": f"dialog_gym/{world}-v0", "agent": agent, "seed": seed}
    result = {
        "seeds": [1, 2, 3],
        "returns": [mean - 0.1, mean, mean + 0.1],
        "costs": [cost] * 3,
        "success_rate": 0.5,
    }
    told = {
        "config": {"cell": cell},
        "result": result,
        "budget": 0.2 if cost else None,
        "curve": list(curve),
        "curve_unit": "updates" if curve else "",
        "learned_from": learned,
        "tokens": None,
        "cpu_seconds": 60.0,
        "wall_seconds": 60.0,
        "versions": versions or {"python": "3.11"},
        "episodes": episodes,
    }
    path = Path(folder) / "cells" / f"{world}--{agent}--{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))
    return path


def write_bench(folder, *, costs=False):
    """Write a folder of results: two worlds, two references, three agents, one of which cannot act in the second."""
    folder = Path(folder)
    for world, low, high in (("Bargain", 0.2, 0.7), ("Chat", 0.1, 0.9)):
        write_cell(folder, world, "lm", 0, low)
        write_cell(folder, world, "oracle", 0, high)
        for agent, share in (("ppo", 0.4), ("td3", 0.8), ("dpo", 0.6)):
            if (agent, world) == ("dpo", "Chat"):
                continue
            for seed in range(3):
                mean = low + (high - low) * share + 0.02 * seed
                curve = [[at, low + (mean - low) * at / 300] for at in (100, 200, 300)]
                here = (
                    f"episodes/{world}--{agent}--{seed}" if world == "Bargain" and agent != "dpo" and not seed else ""
                )
                if here:
                    write_episodes(folder / here, [episode(agent, 5 + k, share - 0.1 * k) for k in range(4)])
                cost = 0.1 * share if costs else 0.0
                write_cell(folder, world, agent, seed, mean, curve=curve, learned="log", cost=cost, episodes=here)
    why = {"agent": "dpo", "world": "Chat", "reason": "it learns from rankings, and there are none"}
    asked = ["Chat--ppo--3"]
    (folder / "suite.json").write_text(json.dumps({"asked": asked, "not_applicable": [why]}))
    return folder


def write_run(folder, *, versions=None, returns=(0.1, 0.4)):
    """Write the folder of a training run with evaluations during training and the dialogues of the last."""
    folder = Path(folder)
    (folder / "episodes").mkdir(parents=True)
    args = {"env": "dialog_gym/BargainPrefix-v0", "seed": 4}
    (folder / "config.json").write_text(json.dumps({"agent": "td3", "args": args}))
    lines = [{"step": 100 * (k + 1), "eval/return": value} for k, value in enumerate(returns)]
    lines.insert(1, {"step": 150, "loss/critic": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "versions.json").write_text(json.dumps([{"python": "3.0"}, versions or {"python": "3.11"}]))
    rows = [episode("", 5 + k, 0.5).to_json() for k in range(2)]
    (folder / "episodes" / "agent.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
