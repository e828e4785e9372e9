"""The notebook of examples/ runs, and its values can be shown; without a server or a kernel."""

import ast
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mcsim.interface import Report

NOTEBOOK = Path(__file__).parent.parent / "examples" / "notebook.ipynb"


def shown(source, names):
    """Run a cell; its last value, as a notebook takes it."""
    *start, last = ast.parse(source).body
    is_value = isinstance(last, ast.Expr)
    exec(compile(ast.Module(start if is_value else [*start, last], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if is_value else None


@pytest.mark.filterwarnings("default")  # a notebook is no test of warnings
def test_cells_run_in_order_and_show_something(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names = {}
    values = [shown("".join(c["source"]), names) for c in cells if c["cell_type"] == "code"]
    for value in values:
        assert isinstance(value, str | Figure) or "<" in value._repr_html_(), value
    *_, page = values
    assert page.samefile(tmp_path / "results" / "study" / "report.html")
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert "&lt;html" in page._repr_html_()
    assert isinstance(page, Report)
    assert page.parent._repr_html_() is None  # a folder is no page
