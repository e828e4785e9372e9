"""CONTRIBUTING.md names files that exist, and every folder."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_path_exists():
    paths = re.findall(r"`((?:mcsim|tests|\.ci)/[\w./]*)`", TEXT)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_folder_is_on_the_map():
    folders = {path.name for path in (ROOT / "mcsim").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(re.findall(r"`mcsim/(\w+)`", TEXT.split("## Where is it?")[0]))


def test_twelve_questions_and_more_are_answered():
    table = TEXT.split("## Where is it?")[1].split("## How to add")[0]
    assert len(re.findall(r"\| `mcsim/", table)) >= 12
