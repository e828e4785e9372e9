"""One page for a study or a folder of studies: self-contained HTML, from the files alone.

Here is what the page says, as data; how it looks is the templates' business, which escape all text.
"""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from mcsim import __version__
from mcsim.errors import DataError, ScenarioError
from mcsim.names import shown_labels
from mcsim.plots.drawing import render, style
from mcsim.plots.kinds import draw
from mcsim.plots.plan import draw_plan
from mcsim.report.answer import MOST_SHOWN as MOST_OF_KIND
from mcsim.report.answer import Answer, answer, figure_of, having
from mcsim.report.findings import ERROR_RATE, Finding, findings
from mcsim.report.plan import plan_parts
from mcsim.report.protocol import Protocol, protocol
from mcsim.report.words import Name, Sentence
from mcsim.results.folder import (
    Part,
    read_columns,
    read_conditions,
    read_manifest,
    read_parts,
)
from mcsim.results.store import Store, failed_fits
from mcsim.results.whole_files import refuse_place, write_beside
from mcsim.scenario.load import load_scenario
from mcsim.summary.plans import MadePlan, read_plan
from mcsim.summary.printed import cell_of
from mcsim.summary.records import (
    Record,
    fit_of,
    in_fits,
    is_unreachable,
    note_on_estimates,
    note_on_intervals,
    one_per_fit,
    raw_methods,
    unique,
)
from mcsim.summary.selection import Selection, Shown, shown_rows
from mcsim.summary.summarize import studies_in

Table = list[list[str | Sentence]]  # the header first

TEMPLATES = Path(__file__).parent / "templates"
MAX_FIGURES = 4_000_000  # bytes of all figures of a page, the most telling ones first
MAX_ROWS = 2_000  # of the tables of numbers of a page
MAX_MESSAGES = 10  # of failed fits
PIXELS_PER_POINT = 96 / 72
NARROW, SHRUNK = 640, 0.8  # pixels, share of its width: a figure narrower than both scrolls
FIGURES: tuple[tuple[str, str | None], ...] = (  # kind, measure; some cannot be given
    ("estimates", None),
    ("bias", None),
    ("lollipop", "coverage"),
    ("lollipop", "rejection"),
)
MOST_SHOWN = 6  # parameters of another figure, first those of the answer
SHOWN = ("truth", "mean", "bias", "rmse", "coverage", "rejection", "n", "share_at_zero")
HEADER = ("parameter", "truth", "mean", "bias", "RMSE", "coverage %", "power/type I %", "n", "at 0")
UNREACHABLE = (
    "No coverage where intervals cannot hold the truth, which is the last possible value, such as"
    " an SD of 0."
)
TITLES = {  # of the parts of a page, in order
    "answer": "Answer",
    "paragraph": "For a paper",
    "done": "What was done",
    "found": "What was found",
    "figures": "Figures",
    "numbers": "Numbers",
    "failures": "Failures",
    "again": "How to do it again",
}
COUNTS = ("n_replicates", "n_failed", "n_boundary")
COUNT_WORDS = ("fits", "failed", "on the boundary")


class Figures(NamedTuple):
    """SVG elements: that of the answer and the others; what was left out to keep the page small."""

    first: list[Markup]
    others: list[Markup]
    left_out: list[str]


class Numbers(NamedTuple):
    """The table of measures, how many of its columns are text, rows that it has no room for."""

    rows: Table
    n_left: int
    n_more: int
    notes: Sequence[str]


class Failure(NamedTuple):
    """Fits that failed with the same message: how many, and the first of them."""

    n: int
    first: Record


def write_report(results: Path, out: Path | None = None) -> Path:
    """Write the page of a study, or of the studies in a folder; into the folder unless `out` says.

    Raises
    ------
    DataError
        There is no study, or it is damaged.
    McsimError
        The page cannot be written.
    """
    path = results / "report.html" if out is None else out
    plan = read_plan(results)
    if plan is None:
        studies_in(results)  # there must be one, before anything is said of the file
    refuse_place(path, (".html", ".htm"))
    write_beside(path, (page(results) if plan is None else page_of_plan(results, plan)).encode())
    return path


def page(results: Path) -> str:
    """The page as HTML: the same for the same results."""
    folders = studies_in(results)
    numbers = itertools.count(1)
    studies = [_study(one, numbers, len(folders)) for one in folders]
    title = studies[0]["title"] if len(studies) == 1 else results.name
    return _rendered(title, studies, None)


def page_of_plan(results: Path, plan: MadePlan) -> str:
    """The page of a plan: its answer, the designs, and the study of the one that was chosen."""
    parts = plan_parts(plan, results, _figure_of_plan)
    numbers = itertools.count(1)
    studies = [] if plan.study is None else [_study(plan.study, numbers, 1)]
    return _rendered(plan.title, studies, parts)


def _figure_of_plan(plan: MadePlan) -> Markup:
    with style():
        return inline_svg(render(draw_plan(plan), "svg").decode(), 0, "plan")


def _rendered(
    title: str, studies: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None
) -> str:
    template = _environment().get_template("report.html")
    return template.render(
        version=__version__, title=title, studies=studies, titles=TITLES, plan=plan
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.tests["name"] = lambda value: isinstance(value, Name)
    environment.filters["whole_values"] = _whole_values
    return environment


def _whole_values(words: str) -> Markup:
    """Text of a page in which a short table, such as {gamma = 1}, is never broken."""
    whole = r'<wbr><span class="whole">\g<0></span>'
    return Markup(re.sub(r"\{[^{}]{1,30}\}", whole, str(escape(words))))  # noqa: S704


def _study(study: Path, numbers: Iterator[int], n_studies: int) -> Mapping[str, Any]:
    """What the page says of a study, by the names that the template has for it."""
    shown = shown_rows(study, Selection())
    found = findings(shown)
    said = answer(shown, found)
    n_judged = sum(len(one.verdicts) for one in found)
    store, manifest = Store.read(study), read_manifest(study)
    described, refusal = _protocol(study, shown)
    missing = {label: ranges for label, ranges in store.missing().items() if ranges}
    progress = _progress(manifest, missing, shown)
    has_failures = any(record["n_failed"] for record in shown.records)  # which end a run if many
    return {
        "anchor": f"study-{study.name}",
        "title": str(manifest.get("title") or study.name),
        "progress": progress,
        "is_complete": not missing,
        "answer": said.sentences,
        "paragraph": described and described.paragraph(progress, _largest_errors(shown)),
        "protocol": described,
        "refusal": refusal,
        "findings": _by_parameter(found, shown),
        "meanings": {one.topic.title: one.meaning for one in found},
        "n_judged": n_judged,
        "n_by_chance": f"{n_judged * ERROR_RATE:.0f}",
        "figures": _figures(shown, said, numbers, MAX_FIGURES // n_studies),
        "numbers": _numbers(shown, MAX_ROWS // n_studies),
        "fits": _fits(shown)[: MAX_ROWS // n_studies + 1],
        "failures": _failures(study, shown),
        "reproduction": _reproduction(study, manifest, has_failures=has_failures),
    }


def _by_parameter(
    found: Sequence[Finding], shown: Shown
) -> dict[str, list[tuple[Sentence, Sequence[str]]]]:
    """Sentences, with the methods of which they hold where not of all; last, those of several."""
    groups: dict[str, list[tuple[Sentence, Sequence[str]]]] = {}
    for one in found:
        everybody = raw_methods(itertools.chain(*one.said.values()), shown.methods)
        for (parameter, sentence), methods in one.said.items():
            own = [] if raw_methods(methods, shown.methods) == everybody else methods
            groups.setdefault(parameter, []).append((sentence, own))
    return {name: groups[name] for name in (*shown.parameters, "") if name in groups}


def _largest_errors(shown: Shown) -> str:
    """What the Monte Carlo standard errors of the shares are at most."""
    errors = {
        words: max((r[f"{name}_mcse"] for r in shown.records if r[f"{name}_mcse"]), default=None)
        for name, words in (("coverage", "coverage"), ("rejection", "power or type I error"))
    }
    known = [
        f"{100 * error:.1f} percentage points of {words}"
        for words, error in errors.items()
        if error
    ]
    if not known:
        return ""
    return f"Monte Carlo standard errors are at most {' and '.join(known)}."


def _progress(
    manifest: Mapping[str, Any], missing: Mapping[str, Sequence[tuple[int, int]]], shown: Shown
) -> str:
    n_conditions = len(manifest["conditions"])
    n_planned = manifest["replicates"] * n_conditions
    n_missing = sum(last - first + 1 for ranges in missing.values() for first, last in ranges)
    fits = {(r["place"], fit_of(r["method"])): r["n_failed"] for r in shown.records}
    of_each = Counter[str]()
    for (_, fit), n in fits.items():
        of_each[fit] += n
    which = ", ".join(f"{n:,} of {fit}" for fit, n in of_each.items() if n)
    counts = f"{n_planned - n_missing:,} of {n_planned:,} data sets"
    return (
        f"{counts} in {_count(n_conditions, 'condition')}, {_count(len(shown.methods), 'method')};"
        f" {of_each.total():,} fits failed{f' ({which})' * (len(of_each) > 1 and bool(which))}."
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _protocol(study: Path, shown: Shown) -> tuple[Protocol | None, str]:
    """What was done, or why it cannot be said."""
    try:
        return protocol(load_scenario(study / "scenario.toml"), shown, _designs(study)), ""
    except ScenarioError as error:
        return None, str(error)


def _designs(study: Path) -> dict[str, str | None]:
    """Designs in words, by condition."""
    table = read_conditions(study).select(["condition", "design_in_words"])
    return {row["condition"]: row["design_in_words"] for row in table.to_pylist()}


def _figures(shown: Shown, said: Answer, numbers: Iterator[int], room: int) -> Figures:
    """The figure of the answer, and others of the parameters that matter most."""
    kind, first, names = figure_of(shown, said)
    figures = Figures([], [], [])
    telling = unique([*said.parameters, *names, *shown.parameters])
    others = [one for one in FIGURES if one != (kind, first)]
    for place, (what, measure) in enumerate([(kind, first), *others[bool(shown.swept) :]]):
        most = MOST_OF_KIND.get(what, MOST_SHOWN)
        own = having(shown, telling, measure)[:most] if place else names
        with suppress(DataError):  # no estimates, no intervals, too many panels
            svg = draw(shown.of_parameters(own), what, measure, "svg").decode()
            if len(svg) > room:
                figures.left_out.append(f"{what}{f' --measure {measure}' if measure else ''}")
                continue
            room -= len(svg)
            drawn = figures.others if place else figures.first
            drawn.append(inline_svg(svg, next(numbers), what))
    return figures


def inline_svg(svg: str, number: int, kind: str) -> Markup:
    """An SVG file as an element of a page, its names made unique and its size flexible."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r"<style .*?</style>", "", element, flags=re.DOTALL)  # would rule the page
    prefix = f"figure{number}-"
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", element)
    size = re.match(r'<svg [^>]*?width="([\d.]+)pt"', element)
    assert size is not None
    width = float(size[1]) * PIXELS_PER_POINT
    label = f'role="img" aria-label="Figure: {escape(kind)}"'
    limits = f'style="max-width: {width:.0f}px; min-width: {min(SHRUNK * width, NARROW):.0f}px"'
    element = re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)
    return Markup(element.replace("<svg", f"<svg {label} {limits}", 1))  # noqa: S704 # ours


def _numbers(shown: Shown, n_rows: int) -> Numbers:
    tested = [r | {"shown_as": r["method"]} for r in shown.records if in_fits(r) == r["method"]]
    others = [r for r in shown.records if in_fits(r) != r["method"]]  # the same for all df methods
    records = tested + one_per_fit(others, SHOWN)
    order = {place: i for i, place in enumerate(shown.places)}
    methods = unique(record["shown_as"] for record in records)
    fits = unique(map(fit_of, methods))

    def place_of(record: Record) -> tuple[int, ...]:
        method = record["shown_as"]
        within = methods.index(method), shown.parameters.index(record["parameter"])
        return order[record["place"]], fits.index(fit_of(method)), *within

    records.sort(key=place_of)
    labels = [("condition", "place")] * (len(order) > 1) + [("method", "shown_as")]
    rows: Table = [[*(name for name, _ in labels), *HEADER]]
    rows += [[*(Name(r[key]) for _, key in labels), *_cells(r)] for r in records[:n_rows]]
    notes = [*note_on_intervals(records), *note_on_estimates(records)]
    notes += [UNREACHABLE] if any(map(is_unreachable, records)) else []
    return Numbers(rows, len(labels) + 1, len(records) - len(rows) + 1, notes)


def _cells(record: Record) -> list[str]:
    return [Name(record["parameter"]), *(cell_of(record, name) for name in SHOWN)]


def _fits(shown: Shown) -> Table:
    """How many fits there are of every condition, and how they ended."""
    rows: Table = [["condition", "method", *COUNT_WORDS]]
    labels = shown_labels(record["condition"] for record in shown.records)
    fits = {(r["place"], fit_of(r["method"])): r for r in shown.records}
    for (_, fit), one in fits.items():
        counts = (f"{one[name]:,}" for name in COUNTS)
        rows.append([Name(labels[one["condition"]]), Name(fit), *counts])
    return rows


def _failures(study: Path, shown: Shown) -> Table:
    """The most frequent messages; empty if no fit failed."""
    if not any(record["n_failed"] for record in shown.records):
        return []
    rows: Table = [["fits", "condition", "replicate", "method", "message"]]
    labels = shown_labels(record["condition"] for record in shown.records)
    found = read_parts(study, lambda parts: first_failures(study, parts))
    for n, first in found[:MAX_MESSAGES]:
        message = first["message"] or first["status"]
        where = (
            Name(labels[first["condition"]]),
            str(first["replicate"]),
            Name(first["method"]),
        )
        rows.append([f"{n:,}", *where, message])
    return rows


def first_failures(study: Path, parts: Sequence[Part]) -> list[Failure]:
    """Failed fits by message, the most frequent first."""
    columns = ["condition", "replicate", "method", "status", "message"]
    found: dict[str, Failure] = {}
    for part in sorted(parts, key=lambda part: (part.first, part.key)):
        fits = read_columns(study / part.path("fits"), columns)
        for record in failed_fits(fits).to_pylist():
            key = record["message"] or record["status"]
            known = found.get(key, Failure(0, record))
            found[key] = known._replace(n=known.n + 1)
    return sorted(found.values(), key=lambda failure: -failure.n)


def _reproduction(
    study: Path, manifest: Mapping[str, Any], *, has_failures: bool
) -> Mapping[str, str]:
    path = study / "scenario.toml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    options = " --plugin FILE" * ('"plugin:' in text) + " --max-failures 1" * has_failures
    versions = manifest.get("versions", {}) | {"Python": manifest.get("python", "?")}
    versions |= manifest.get("r", {}).get("versions", {})
    return {
        "command": f"mcsim run scenario.toml{options} -o {shlex.quote(study.name + '-again')}",
        "scenario": text,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "machine": " ".join(str(manifest.get(key, "?")) for key in ("system", "machine")),
        "created": str(manifest.get("created", "?")),
    }
