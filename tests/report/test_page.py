"""The page: self-contained, safe, readable at any width, true to the summary, reproducible."""

import html
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from mcsim.errors import DataError
from mcsim.report import page as report
from mcsim.results import store
from mcsim.results.folder import read_columns
from mcsim.scenario.load import load_scenario
from mcsim.study import run as study
from mcsim.summary import estimates
from mcsim.summary.cache import latest_summary
from mcsim.summary.records import n_in_words
from mcsim.summary.summarize import summarize
from mcsim.summary.text import with_mcse
from tests.conftest import SMALL, call_mcsim, run_mcsim
from tests.report import test_findings as told
from tests.samples import write_part

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MAX_BYTES = 5_000_000
HOSTILE = '<script>alert(1)</script> "$title" & ${version} \' <b>'
VOID = {"meta", "br", "img", "wbr"}
HEAD, FIRST, SECOND = SMALL.split("[[methods]]")
FORMULA = "y ~ x + (1 | animal/image)"  # few parameters: figures take time
ONE_METHOD = f"{HEAD}[[methods]]{SECOND}".replace("y ~ diet * x + (x || animal/image)", FORMULA)
SWEPT = '\n[sweep]\n"design.levels.image.count" = [2, 5]\n'
PROBE = """<!DOCTYPE html><title>none</title><iframe src="{page}" style="border:0;width:{width}px;
height:900px"></iframe><script>onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const own = [...page.querySelectorAll("main *")].filter(one => !one.closest(".box, figure, pre"));
  const right = Math.max(...own.map(one => one.getBoundingClientRect().right));
  const boxes = [...page.querySelectorAll(".box, figure, pre")];
  const wide = boxes.map(one => one.getBoundingClientRect().right);
  document.title = [page.documentElement.scrollWidth, right, ...wide].map(Math.round).join(" ");
}}</script>"""


class Page(HTMLParser):
    """What a test asks of a page: tags in balance, attributes, tables, text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.tables = [], Counter(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def run(folder, text, n):
    folder.mkdir(exist_ok=True)
    (folder / "any.toml").write_text(text)
    scenario = load_scenario(folder / "any.toml", replicates=n)
    return study.run_study(scenario, study.RunOptions(folder / "study", n_workers=1)).directory


def text_of(page):
    return html.unescape(re.sub(r"<.*?>", "", page))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    text = ONE_METHOD.replace('"Small"', json.dumps(HOSTILE)) + SWEPT
    return run(tmp_path_factory.mktemp("swept"), text, 30)


@pytest.fixture(scope="module")
def page(swept):
    return report.page(swept)


@pytest.fixture(scope="module")
def parsed(page):
    return Page(page)


@pytest.fixture
def few_figures(monkeypatch):
    """A page with one kind of figure, where the test is of something else."""
    monkeypatch.setattr(report, "FIGURES", ())


def test_nothing_is_loaded_or_run(parsed):
    policy = [value for tag, _, value in parsed.attributes if tag == "meta" and "default" in value]
    assert policy[0].startswith("default-src 'none'")
    assert "script-src" not in policy[0]
    assert not parsed.tags.keys() & {"script", "link", "iframe", "object", "embed", "form", "img"}
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
        assert "http" not in value or name.startswith("xmlns"), (tag, name, value)


def test_names_from_files_are_text(page):
    assert "<script" not in page
    assert page.count(str(escape(HOSTILE))) == 2  # in the title and above the study
    assert HOSTILE in html.unescape(page)


def test_identifiers_are_unique_and_references_resolve(page, parsed):
    known = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(known) == len(set(known)) > 100
    wanted = {v[1:] for _, n, v in parsed.attributes if n in ("href", "xlink:href") and v[0] == "#"}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert len(wanted) > 100
    assert wanted <= set(known)


def test_the_five_parts_of_ademp_stand_in_order(page):
    headings = re.findall(r"<h3>(.*?)</h3>", page)
    assert headings[:5] == [
        "Aims", "Data-generating mechanism", "Estimands", "Methods", "Performance measures",
    ]  # fmt: skip
    words = text_of(page)
    assert "when design.levels.image.count is 2, 5." in words
    animals = "9 units of animal; 18 units of image, 2 per animal; 90 observations, 5 per"
    assert f"image.count=2: {animals}" in words
    mean = "1 * Intercept + 0.5 * diet[T.fed] - 1 * x".replace("*", "\N{MULTIPLICATION SIGN}")
    assert f"Mean of y: {mean}." in words
    assert "Effects of animal: SD 0.6 of Intercept, 0.4 of x; correlation 0.3." in words
    assert "30 data sets per condition, seed 7." in words


def test_tables_hold_the_truth_the_formulas_and_the_summary(swept, parsed):
    estimands, methods, numbers, failures = parsed.tables
    assert ["animal.sd(Intercept)", "SD, animal", "0.6"] in estimands
    assert methods[1][:2] == ["diagonal", FORMULA]
    records = [r for r in summarize([swept]).to_pylist() if ".var(" not in r["parameter"]]
    assert len(numbers) == 1 + len(records)
    for row, record in zip(numbers[1:], records, strict=True):
        assert row[:3] == [record["condition"], "diagonal", record["parameter"]]
        assert row[6] == with_mcse(record["rmse"], record["rmse_mcse"])
        assert row[9] == n_in_words(record)
    n_boundary = [str(record["n_boundary"]) for record in records[:: len(records) // 2]]
    assert [row[4] for row in failures[1:]] == n_boundary


def test_effects_have_a_row_of_every_df_method_and_all_else_one_of_every_fit():
    rows = [
        told.record(method=f"m/{df}", parameter=name, component=component, truth=1 / 3)
        for df in ("z", "residual")
        for name, component in (("x", "fixed"), ("a.sd(x)", "a"))
    ]
    numbers = report._numbers(told.shown(*rows, told.record(method="ols")), 9).rows
    assert [row[:3] for row in numbers[1:]] == [
        ["m/z", "x", "0.3333"], ["m/residual", "x", "0.3333"], ["m", "a.sd(x)", "0.3333"],
        ["ols", "x", "0.5"],
    ]  # fmt: skip


def test_a_short_table_in_a_name_is_not_broken():
    words = report._whole_values("d={t = 5}, <b>")
    assert words == 'd=<wbr><span class="whole">{t = 5}</span>, &lt;b&gt;'


@pytest.mark.usefixtures("few_figures")
def test_residuals_and_whatever_else_a_truth_states_is_described(tmp_path):
    text = ONE_METHOD.replace(
        "[truth.fixed]", '[truth.residual]\ncorrelation = "ar1"\nphi = 0.6\n[truth.fixed]'
    )
    words = text_of(report.page(run(tmp_path, text, 2)))
    assert "Residuals: SD 0.5; correlation 'ar1'; phi 0.6." in words


def test_the_page_depends_on_the_results_alone(swept, page, tmp_path):
    copy = tmp_path / swept.name
    shutil.copytree(swept, copy)
    code = "import pathlib, mcsim.report.page as r; "
    code += f"print(r.page(pathlib.Path({str(copy)!r})), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == page


def test_the_command_on_the_page_makes_the_same_estimates(swept, page, tmp_path):
    command, scenario = (
        html.unescape(one) for one in re.findall(r"<code>([^<]*)</code></pre>", page)
    )
    (tmp_path / "scenario.toml").write_text(scenario)
    arguments = command.split()
    assert arguments[:2] == ["mcsim", "run"]
    assert run_mcsim(*arguments[1:], cwd=tmp_path).returncode == 0
    for path in (swept / "estimates").glob("*.parquet"):
        assert (
            tmp_path / "study-again" / "estimates" / path.name
        ).read_bytes() == path.read_bytes()


def test_the_page_of_a_sweep_is_made_from_its_summary_alone(swept, tmp_path, monkeypatch):
    copy = tmp_path / "study"
    shutil.copytree(swept, copy)
    latest_summary(copy)  # as after mcsim run
    opened = Counter()

    def count(path, columns):
        opened[path] += 1
        return read_columns(path, columns)

    for module in (report, estimates, store):
        monkeypatch.setattr(module, "read_columns", count)
    report.page(copy)
    assert opened == Counter()


@pytest.mark.usefixtures("few_figures")
def test_failed_fits_are_counted_with_their_messages(swept, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(swept, copy)
    path = min((copy / "fits").glob("*.parquet"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row, message in zip(rows, ["<no> certificate", "rare", "<no> certificate"], strict=False):
        row |= {"status": "failed", "message": message}
    write_part(path, pa.Table.from_pylist(rows, table.schema))
    found = Page(report.page(copy))
    label = rows[0]["condition"]
    (counts,) = [row for row in found.tables[-2] if row[0] == label]
    assert counts[:4] == [label, "diagonal", "30", "3"]
    assert found.tables[-1] == [
        ["fits", "condition", "replicate", "method", "message"],
        ["2", label, str(rows[0]["replicate"]), "diagonal", "<no> certificate"],
        ["1", label, str(rows[1]["replicate"]), "diagonal", "rare"],
    ]


def test_the_first_screen_answers_and_the_rest_is_folded(page):
    first, *folded = page.partition("</article>")[0].split("<details ")
    answer = re.search(r'<div class="answer">(.*?)</div>', first, re.DOTALL)[1]
    assert 1 <= answer.count("<p>") <= 5
    assert first.count("<figure>") == 1
    assert first.index("<figure>") > first.index(answer)
    paragraph = text_of(re.search(r"<blockquote>(.*?)</blockquote>", first, re.DOTALL)[1])
    assert paragraph.startswith("We ran a simulation study to find out how well one method")
    for sentence in ("9 units of animal;", "seed 7.", "formula y ~ x", "at most"):
        assert sentence in paragraph
    assert len(folded) == len(report.TITLES) - 2
    assert "<h3><code>x</code></h3>" in page


@pytest.mark.usefixtures("few_figures")
def test_a_study_that_is_not_complete_says_so(swept, page, tmp_path):
    assert "60 of 60 data sets in 2 conditions, 1 method; 0 fits failed." in page
    assert "not complete" not in page
    assert '<p class="lead">60 of 60' in page
    copy = tmp_path / "study"
    shutil.copytree(swept, copy)
    max((copy / "commits").glob("*.json")).unlink()
    text = report.page(copy)
    assert re.search(r"\d+ of 60 data sets", text)[0] != "60 of 60 data sets"
    assert "The study is not complete" in text
    assert '<p class="lead early">' in text  # before the figure on narrow screens


def test_figures_that_would_make_the_page_too_large_are_left_out_and_named(
    swept, page, monkeypatch
):
    assert len(page.encode()) < MAX_BYTES
    assert page.count("<figure>") == 4
    monkeypatch.setattr(report, "MAX_FIGURES", 150_000)
    small = report.page(swept)
    assert 0 < small.count("<figure>") < page.count("<figure>")
    assert len(small) < len(page)
    assert "Left out to keep the page small" in small


def test_many_replicates_make_no_larger_page(tmp_path):
    sizes = [
        len(report.page(run(tmp_path / str(n), ONE_METHOD, n)))
        for n in (400, 3_000)  # a panel of intervals is full at 250
    ]
    assert sizes[1] < 1.1 * sizes[0]


def test_one_replicate_has_a_page(tmp_path):
    words = text_of(report.page(run(tmp_path, ONE_METHOD, 1)))
    assert "1 of 1 data sets in 1 condition, 1 method" in words
    assert "Bias: none" not in words  # nothing is known of it


@pytest.mark.usefixtures("few_figures")
def test_studies_in_a_folder_share_a_page(swept, tmp_path):
    folder = tmp_path / "results"
    for name in ("one", "two & three"):
        shutil.copytree(swept, folder / name)
    done = call_mcsim("report", "results", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Wrote results/report.html" in done.stderr
    text = (folder / "report.html").read_text()
    found = Page(text)
    assert len(text.encode()) < MAX_BYTES
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [v[1:] for tag, name, v in found.attributes if (tag, name) == ("a", "href")]
    assert len(links) == 2 * (1 + len(report.TITLES))  # contents of both, and of each
    assert set(links) <= set(ids)
    assert found.tags["article"] == 2


@pytest.mark.usefixtures("few_figures")
def test_a_folder_without_a_study_or_a_place_that_cannot_be_written_is_refused(swept, tmp_path):
    with pytest.raises(DataError, match="no study here"):
        report.page(tmp_path)
    (tmp_path / "file").touch()
    for arguments in ((tmp_path,), (swept, "-o", tmp_path / "file" / "report.html")):
        assert call_mcsim("report", *arguments, cwd=tmp_path).returncode == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_only_boxes_scroll_sideways(page, tmp_path, width):
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "probe.html").write_text(PROBE.format(page="report.html", width=width))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'own'}"]
    command = [CHROMIUM, *options, "--allow-file-access-from-files", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "probe.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>([\d ]+)</title>", done.stdout)
    assert title is not None, done.stdout[:500]
    scroll_width, *edges = map(int, title[1].split())
    assert scroll_width <= width
    assert len(edges) > 8
    assert max(edges) <= width
