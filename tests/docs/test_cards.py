"""Pages of environments and agents say what the code says."""

from dataclasses import dataclass, fields

import pytest

from dialog_gym.agent import agent_names, agent_spec
from dialog_gym.registration import TASKS
from docs import cards


def test_there_is_a_page_for_everything_that_is_registered_and_they_are_always_the_same():
    found = cards.pages()
    assert {f"environments/{name.lower()}.md" for name in TASKS} < set(found)
    assert {f"agents/{name}.md" for name in agent_names()} < set(found)
    assert found == cards.pages()
    for path, text in found.items():
        assert text.startswith("# "), path
        assert "``" not in text, f"{path}: code of a docstring is code of Markdown"
        assert " object at 0x" not in text, f"{path}: an address changes from build to build"


def test_a_page_of_an_environment_has_card_settings_spaces_and_policies():
    page = cards.environment_page("Bargain")
    assert '| `side` | `"buyer"` | The agent\'s role, `"buyer"` or `"seller"`. The buyer speaks first. |' in page
    assert "**Optimum:** `oracle` earns .88" in page
    assert "action: 16 numbers in [-1, 1]" in page
    assert "`tiny-bargain`" in page
    assert "`oracle`, `infers`, `random-price`" in page


def test_what_a_function_chooses_from_has_its_own_card_and_settings():
    page = cards.environment_page("RedTeam")
    assert "## RedTeamBehaviours" in page
    assert "| `behaviours` | required |" in page


@pytest.mark.parametrize("name", agent_names())
def test_every_setting_of_an_agent_is_told_once_with_its_documentation(name):
    page = cards.agent_page(name)
    docs = cards.field_docs(agent_spec(name).args)
    for field in fields(agent_spec(name).args):
        flag = f"| `--{field.name.replace('_', '-')}` |"
        assert page.count(flag) == 1, field.name
        assert docs.get(field.name), f"{name}: {field.name} has no documentation"


def test_a_default_is_that_of_the_last_class_that_sets_it():
    assert '| `--env` | `"dialog_gym/BargainPrefix-v0"` |' in cards.agent_page("td3")
    assert '| `--env` | `"dialog_gym/Bargain-v0"` |' in cards.agent_page("rollouts")


def test_labels_lists_and_signs_of_a_card():
    card = "A: b.\n\nReward: 2 * (x) ** (y), at most ``a * b`` and <b>.\nEnd: soon\nso: no label.\nList:\n- one\n- two"
    assert cards.markdown(card) == (
        "A: b.\n\n**Reward:** 2 \\* (x) \\*\\* (y), at most `a * b` and &lt;b>.\n\n**End:** soon\nso: no label.\n\n"
        "**List:**\n\n- one\n- two"
    )


def test_arguments_are_read_from_the_class_or_its_constructor():
    class Outer:
        """A thing.

        Args:
            one: First,
                and more.
            two: Second.

        Attributes:
            three: Not an argument.
        """

    class Inner:
        def __init__(self, one):
            """Make it.

            Args:
                one: First.
            """

    assert cards.args_section(Outer) == {"one": "First, and more.", "two": "Second."}
    assert cards.args_section(Inner) == {"one": "First."}


def test_field_docs_of_bases():
    @dataclass(frozen=True)
    class Base:
        one: int = 1
        """The first."""
        two: int = 2
        """The second."""

    @dataclass(frozen=True)
    class Derived(Base):
        two: int = 3
        """The second,
        otherwise."""

    assert cards.field_docs(Derived) == {"one": "The first.", "two": "The second, otherwise."}
