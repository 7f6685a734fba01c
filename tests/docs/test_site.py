"""The site builds without a warning, and a page asks no other host for anything."""

import re
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'dialog-gym[docs]'")

ROOT = Path(__file__).parents[2]


class Loaded(HTMLParser):
    """What a page loads by itself: of every tag but ``a`` and canonical links, addresses on other hosts."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            away = re.match(r"(https?:)?//", value or "")
            if tag != "a" and name in ("src", "href", "srcset", "action", "data", "poster") and away:
                self.found.append(f"<{tag} {name}={value}>")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_there_and_reached_from_the_navigation(site):
    from dialog_gym.agent import agent_names
    from dialog_gym.registration import TASKS

    generated = {f"environments/{name.lower()}" for name in TASKS} | {f"agents/{name}" for name in agent_names()}
    written = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in sorted(generated | written):
        assert (site / f"{page}.html").is_file(), page
        assert f'href="{page}.html"' in start or page == "index", f"{page} is not in the navigation"


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        text = path.read_text(encoding="utf-8")
        page = Loaded()
        page.feed(text)
        assert page.found == [], path.name
        assert 'class="mermaid"' not in text, "a diagram would load its library from another host"
        assert not re.search(r"@import|url\((?!data:)['\"]?https?:", text)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_python_files_of_docs_are_not_published(site):
    assert list(site.rglob("*.py")) == []


def test_the_pages_do_not_name_this_machine(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text, path.name
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\.", text) or len(socket.gethostname()) < 4
