"""CONTRIBUTING.md names files that exist, and every folder; and a rule that ruff does not know."""

import ast
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


def test_text_is_read_and_written_with_its_encoding():
    """In the locale's it would be other text elsewhere; ruff sees only paths that it can infer."""
    found = []
    for path in sorted((ROOT / "mcsim").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                given = {one.arg: ast.unparse(one.value) for one in call.keywords}
                is_text = name in ("read_text", "write_text") or given.get("text") == "True"
                is_text |= isinstance(call.func, ast.Name) and name == "open"
                if is_text and "encoding" not in given:
                    found.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert found == []
