"""Response-v0: answer as the support agent of a corpus; each answer is compared with a known-good one.

**Without arguments** it is an embedded world, a shop's support, where the quality of every answer is known.

Observation: the transcript; the agent has the shop's policy and the record of one or two orders (item; on its way,
lost or delivered; the day that counts). The customer tells a problem in its own words: late, broken, wrong item, not
wanted, paid too much.
Action: an answer. What counts in it (``response_language.understand``): *questions* (box opened, when bought, how
paid), *offers* (refund, replace, repair, voucher, wait), *days* (tomorrow, Friday, Monday), and the *tone* (apology,
comfort, or plain; both at once are plain: nobody believes both). Denials, conditions and quoted wishes do not count.
What is due depends on what was said: the fact on which the policy turns must be asked for unless the customer has
told it; then the one right offer; then the day, if the customer asks for it. A second problem may follow. A lucky
guess spares the question (and forgoes its reward), a wrong one brings the fact to light.
Reward: quality in [0, 1] of an answer that does what is due, times its weight (question .5, offer 1, day .75, made to
add up to 1). Quality is .4 and .6 * the fit of the tone to the customer's hidden mood (an apology for the angry,
comfort for the worried, plain words for the calm), less .25 for each thing that was not due, .25 more if that is
false, and .01 for each word above 30. An answer that does not do what is due earns 0, costs patience, halves what the
step is still worth, and annoys. So the return lies in [0, 1].
The customer: its mood shows in one phrase a turn, of which 15% mislead. The right answer in the right tone calms (.6),
a tone that does not fit at all makes angry (.25), a failure likewise (.5); a second problem brings a mood of its own.
After each turn the customer may leave: .2 if angry, .08 if worried, .03 if calm; and always after 2 to 4 failures.
Terminates: ``"solved"``, ``"left"``. Truncates after ``max_turns``. Success: solved with a return of at least .7.
Optimum: ``oracle`` sees mood and facts. 512 held-out episodes: oracle .917, *infers*, which sees nothing hidden, .840;
who always does what is due, but in one tone, at most .584; the best constant answer .081, random .035.
``python -m dialog_gym.envs.response`` prints the table.
``metric="bleu"``, ``"chrf"``, ``"meteor"``, ``"overlap"``, ``"bertscore"``, ``"click"`` or ``"bleurt"`` rewards each
answer by its likeness to four wordings of the right one instead, to see what such a metric is worth as a reward. By
the overlap of words the best constant answer earns .46 of what the oracle earns, and plain words to everybody more
than apologies; by the true quality .09, and less.

**With a corpus** (``corpus="abcd", scenarios=FILE``; ``dialog_gym.data.corpora.corpus_names()`` tells them all) it
replays the corpus: the agent answers where a person did, and the partner then says *what it said in the recording,
whatever the agent has said*. Nothing that is said changes what follows, so an answer earns for itself alone, and the
dialogue reads the less sensibly the further the agent strays. Reward per turn: ``metric`` (default ``"bleu"``)
against what the person said there, in [0, 1] (``"bertscore"``: [-1, 1], ``"bleurt"``: [-2, 2]). It measures likeness
to one recorded answer; a different good answer scores low. Terminates: ``"end"`` after the last recorded turn of the
agent. Success: with ``metric="click"``, once an answer was a click.
``episode="response"`` asks for one answer to a random recorded context (the episodes of arXiv:2307.12425: a context,
a response, a terminal reward; ``metric="click"`` is its reward but for the baseline, and its tokens are then words);
it terminates ``"answered"``. ``history="recorded"`` shows language models the person's earlier answers instead of the
agent's own (teacher forcing). Consecutive turns of one role are one turn.
``partner=SPEC`` lets a language model be the customer; the references stay those of the recording.
``split``: 70 and 30 percent of the cases or dialogues, by a hash; ``corpus_split`` names the corpus' own.

History: v0, the first version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dialog_gym.env import need_settings
from dialog_gym.envs.response_support import Support

if TYPE_CHECKING:
    from dialog_gym.envs.response_replay import Replay


def response(corpus: str | None = None, scenarios: str | Path | None = None, **settings: Any) -> Support | Replay:
    """Return the task of ``Response-v0``: the embedded world, or a recorded corpus.

    Args:
        corpus: Format of a corpus, one of ``dialog_gym.data.corpora.corpus_names()``.
        scenarios: Its file or folder.
        settings: Arguments of ``response_support.Support`` or of ``response_replay.Replay``.

    Raises:
        ValueError: Only one of ``corpus`` and ``scenarios`` is given, or the corpus is damaged.
    """
    if (corpus is None) != (scenarios is None):
        raise ValueError(
            f"corpus (the format) and scenarios (the file) go together, got corpus={corpus!r} and "
            f"scenarios={str(scenarios)!r}"
        )
    if corpus is None or scenarios is None:
        need_settings(Support, settings, "corpus", "scenarios")
        return Support(**settings)
    from dialog_gym.envs.response_replay import Replay

    need_settings(Replay, {"corpus": corpus, "scenarios": scenarios, **settings})
    return Replay(corpus, scenarios, **settings)


if __name__ == "__main__":
    from dialog_gym.envs.response_policies import main

    main()
