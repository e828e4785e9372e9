"""The commands and code blocks of the documentation run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mcsim.scenario.load import load_scenario
from tests.conftest import call_mcsim

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
RUN = [page for page in PAGES if page.stem != "gallery"]  # docs/gallery.py runs that
STUDIES = sorted((ROOT / "docs" / "studies").glob("[a-z]*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINT_REFERENCE = """
import runpy, sys
sys.stdout.write(runpy.run_path(sys.argv[1])["page"]())
"""
KINDS = ("bash", "python", "r", "toml", "text")


def run_block(kind, code, folder):
    """Run a block; one of nothing but commands of mcsim without starting a process for each."""
    lines = code.replace("\\\n", " ").splitlines()
    if kind == "bash" and all(re.fullmatch(r"mcsim [^|<>$;&*?]+", line) for line in lines):
        for line in lines:
            done = call_mcsim(*shlex.split(line, comments=True)[1:], cwd=folder)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
        return
    command = {"bash": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}
    if kind in command:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [*command[kind], code],
            cwd=folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_blocks_run_in_order(page, tmp_path):
    for config in (*(ROOT / "configs").glob("*.toml"), *(ROOT / "docs").glob("*.csv")):
        (tmp_path / config.name).write_bytes(config.read_bytes())
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    for kind, code in blocks:
        assert kind in KINDS
        run_block(kind, code, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_scenario_fragments_are_valid(page, tmp_path):
    fragments = [code for kind, code in BLOCK.findall(page.read_text()) if kind == "toml"]
    head = (ROOT / "mcsim" / "planning" / "starters" / "nested.toml").read_text()
    for number, code in enumerate(fragments):
        start = head[: head.index("[[methods]]" if "[[methods]]" in code else "[[estimands]]")]
        if "[truth]" in code:  # in the place of that of the starter
            code += head[head.index("[[methods]]") : head.index("[[estimands]]")]
            start = head[: head.index("[truth]")]
        path = tmp_path / f"{number}.toml"
        path.write_text(start + code)
        assert load_scenario(path).methods


def test_the_reference_is_what_the_program_says():
    command = [sys.executable, "-c", PRINT_REFERENCE, str(ROOT / "docs" / "reference.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "docs" / "reference.md").read_text(), "run docs/reference.py"


def test_the_site_has_all_pages():
    named = re.findall(
        r"- (?:\w+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in pages)


@pytest.mark.parametrize("page", STUDIES, ids=lambda page: page.stem)
def test_a_study_names_its_command_seed_and_replicates(page):
    scenario = load_scenario(ROOT / "configs" / f"{page.stem}.toml")
    text = page.read_text()
    command = "run" if scenario.plan is None else "plan"
    assert f"mcsim {command} configs/{page.stem}.toml" in text
    assert f"seed {scenario.seed}" in text
    if command == "run":  # a plan takes as many as it needs
        assert f"{scenario.replicates:,} replicates" in text
    assert f"({page.name})" in (page.parent / "README.md").read_text()
    for code in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        assert code in (ROOT / "configs" / f"{page.stem}.toml").read_text()
