"""One page for a study or a folder of studies: self-contained HTML, from the files alone."""

import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import pyarrow.compute as pc

from mcsim import __version__
from mcsim.errors import DataError, ScenarioError
from mcsim.plots.kinds import Selection, draw, write_whole
from mcsim.report.findings import ERROR_RATE, Finding, code, findings
from mcsim.report.protocol import protocol
from mcsim.results.folder import Part, read_columns, read_conditions, read_manifest, read_parts
from mcsim.results.store import FAILED, Store
from mcsim.scenario.load import load_scenario
from mcsim.summary.selection import Record, Shown, one_per_fit, shown_rows, studies_in, unique
from mcsim.summary.text import percent, shown_as, with_mcse

TEMPLATES = Path(__file__).parent / "templates"
MAX_FIGURES = 4_000_000  # bytes of all figures of a page, the most telling ones first
MAX_ROWS = 2_000  # of the tables of numbers of a page
MAX_MESSAGES = 10  # of failed fits
FOLDED_ROWS = 60  # a longer table opens on a click
PIXELS_PER_POINT = 96 / 72
NARROW = 640  # pixels: a figure as wide as this is not made narrower, it scrolls
OF_CONDITIONS = (  # kind, measure; a study that cannot give one goes without
    ("curves", None),
    ("bias", None),
    ("nested-loop", "rmse"),
    ("lollipop", "coverage"),
    ("lollipop", "rejection"),
    ("se", None),
)
OF_REPLICATES = (  # a panel per row
    ("estimates", None),
    ("realized", None),
    ("methods", None),
    ("zip", None),
)
MAX_PANELS = 60  # of a figure of replicates
SHOWN = ("mean", "bias", "rmse", "coverage", "rejection", "n", "share_at_zero")
HEADER = ("parameter", "truth", "mean", "bias", "RMSE", "coverage %", "rejected %", "n", "at 0")
COUNTS = ("n_replicates", "n_failed", "n_boundary")
COUNT_WORDS = ("fits", "failed", "on the boundary")
NOTE = "In parentheses: Monte Carlo standard errors. All measures: <code>summary.csv</code>."


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
    write_whole(path, page(results).encode())
    return path


def page(results: Path) -> str:
    """The page as HTML: the same for the same results."""
    studies = studies_in(results)
    if not studies:
        raise DataError(f"{results}: no study here. Give a folder that mcsim run has written.")
    titles = [escape(str(read_manifest(one).get("title") or one.name)) for one in studies]
    numbers = itertools.count(1)
    bodies = [
        _study(one, title, numbers, len(studies))
        for one, title in zip(studies, titles, strict=True)
    ]
    links = [
        f'<a href="#study-{escape(one.name)}">{t}</a>'
        for one, t in zip(studies, titles, strict=True)
    ]
    return _fill(
        "report.html",
        version=__version__,
        title=titles[0] if len(titles) == 1 else escape(results.name),
        contents=f"<nav>{_bullets(links)}</nav>" if len(studies) > 1 else "",
        studies="\n".join(bodies),
    )


def _fill(name: str, **parts: str) -> str:
    return Template((TEMPLATES / name).read_text()).substitute(parts)


def _study(study: Path, title: str, numbers: Iterator[int], n_studies: int) -> str:
    shown = shown_rows(study, Selection())
    found = findings(shown)
    return _fill(
        "report_study.html",
        anchor=f"study-{escape(study.name)}",
        title=title,
        progress=_progress(study, shown),
        in_short=_bullets(_in_short(found)),
        reading=_reading(found),
        findings="\n".join(map(_finding, found)),
        figures=_figures(shown, numbers, MAX_FIGURES // n_studies),
        numbers=_numbers(shown, MAX_ROWS // n_studies),
        failures=_failures(study, shown, MAX_ROWS // n_studies),
        reproduction=_reproduction(study),
        **_protocol(study, shown),
    )


def _progress(study: Path, shown: Shown) -> str:
    status = Store.read(study).status()
    n_done, n_planned = (
        sum(getattr(one, key) for one in status) for key in ("n_done", "n_planned")
    )
    n_failed = sum(one.n_failed for one in status)
    counts = f"{n_done:,} of {n_planned:,} data sets in {_count(len(status), 'condition')}"
    text = f"{counts}, {_count(len(shown.methods), 'method')}; {n_failed:,} fits failed."
    missing = [one for one in status if one.missing]
    return text + " The study is not complete: <code>mcsim status</code>." * bool(missing)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _in_short(found: Sequence[Finding]) -> list[str]:
    return [
        f"{one.title}: {one.n_off or 'none'} of {one.n_judged:,} off by more than the Monte Carlo"
        f" error explains{f'. Clearest: {one.clearest}' if one.clearest else '.'}"
        for one in found
        if one.n_judged
    ]


def _reading(found: Sequence[Finding]) -> str:
    n = sum(one.n_judged for one in found)
    return (
        "Something is called off where it differs from what it should be by more than about two"
        " Monte Carlo standard errors (MCSE). The study compares"
        f" {n:,} numbers in this way; about {n * ERROR_RATE:.0f} would differ by chance alone."
    )


def _finding(one: Finding) -> str:
    pieces = [f"<h3>{escape(one.title)}</h3>", f"<p>{escape(one.meaning)}</p>"]
    for methods, sentences in one.sentences.items():
        pieces += [f"<h4>{escape(methods)}</h4>", _bullets(sentences)]
    return "\n".join(pieces)


def _protocol(study: Path, shown: Shown) -> dict[str, str]:
    path = study / "scenario.toml"
    try:
        parts = protocol(load_scenario(path), shown, _designs(study))
    except ScenarioError as error:
        refusal = f"<p>This version of mcsim cannot read the scenario: {escape(str(error))}</p>"
        return dict.fromkeys(("aims", "mechanism", "estimands", "methods", "measures"), refusal)
    return {
        "aims": "".join(f"<p>{one}</p>" for one in parts.aims),
        "mechanism": _bullets(parts.mechanism),
        "estimands": _table(parts.estimands, n_left=2),
        "methods": _table(parts.methods, n_left=6),
        "measures": _bullets(parts.measures),
    }


def _designs(study: Path) -> dict[str, str | None]:
    """Designs in words, by condition."""
    table = read_conditions(study).select(["condition", "design_in_words"])
    return {row["condition"]: row["design_in_words"] for row in table.to_pylist()}


def _figures(shown: Shown, numbers: Iterator[int], room: int) -> str:
    pieces, left_out = [], []
    n_panels = len(shown.records)
    for kind, measure in (*OF_CONDITIONS, *(OF_REPLICATES if n_panels <= MAX_PANELS else ())):
        with suppress(DataError):  # no sweep, one method, too many panels
            svg = draw(shown, kind, measure, "svg").decode()
            if len(svg) > room:
                left_out.append(f"{kind}{f' --measure {measure}' if measure else ''}")
                continue
            room -= len(svg)
            pieces.append(f"<figure>{inline_svg(svg, next(numbers), kind)}</figure>")
    if left_out:
        pieces.append(f"<p>Left out to keep the page small: {', '.join(left_out)}; see below.</p>")
    pieces.append(
        "<p>Single figures, or some of a large study: <code>mcsim plot --help</code>.</p>"
    )
    return "\n".join(pieces)


def inline_svg(svg: str, number: int, kind: str) -> str:
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
    limits = f'style="max-width: {width:.0f}px; min-width: {min(width, NARROW):.0f}px"'
    element = re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)
    return element.replace("<svg", f"<svg {label} {limits}", 1)


def _numbers(shown: Shown, n_rows: int) -> str:
    records = [
        record
        for name in shown.parameters
        for record in one_per_fit([r for r in shown.records if r["parameter"] == name], SHOWN)
    ]
    order = {place: i for i, place in enumerate(shown.places)}
    methods = unique(record["shown_as"] for record in records)
    records.sort(key=lambda r: (order[r["place"]], methods.index(r["shown_as"])))
    labels = [("condition", "place")] * (len(order) > 1) + [("method", "shown_as")]
    header = [name for name, _ in labels] + list(HEADER)
    rows = [[code(r[key]) for _, key in labels] + _cells(r) for r in records[:n_rows]]
    n_more = len(records) - len(rows)
    rest = f"<p>{n_more:,} more rows are in <code>summary.csv</code>.</p>" if n_more else ""
    table = f"{_table([header, *rows], n_left=len(labels) + 1)}<p>{NOTE}</p>{rest}"
    if len(rows) <= FOLDED_ROWS:
        return table
    return f"<details><summary>{len(rows):,} rows</summary>{table}</details>"


def _cells(record: Record) -> list[str]:
    errors = [with_mcse(record[name], record[f"{name}_mcse"]) for name in ("mean", "bias", "rmse")]
    shares = [percent(record[n], record[f"{n}_mcse"]) for n in ("coverage", "rejection")]
    truth, zeros = shown_as(record["truth"], ".6g"), shown_as(record["share_at_zero"], ".1%")
    return [code(record["parameter"]), truth, *errors, *shares, f"{record['n']:,}", zeros]


def _failures(study: Path, shown: Shown, n_rows: int) -> str:
    by_fit = {(r["place"], r["method"]): r for r in shown.records}
    rows = [
        [code(r["condition"]), code(r["method"]), *(f"{r[name]:,}" for name in COUNTS)]
        for r in by_fit.values()
    ]
    pieces = [_table([["condition", "method", *COUNT_WORDS], *rows[:n_rows]], n_left=2)]
    if any(r["n_failed"] for r in by_fit.values()):
        failures = read_parts(study, lambda parts: first_failures(study, parts))
        pieces.append(
            "<p>The most frequent messages, each with the first fit that it came from:</p>"
        )
        cells = [[f"{one.n:,}", *_failure_cells(one.first)] for one in failures[:MAX_MESSAGES]]
        header = ["fits", "condition", "replicate", "method", "message"]
        pieces.append(_table([header, *cells], n_left=5))
    else:
        pieces.append("<p>No fit failed.</p>")
    return "\n".join(pieces)


def _failure_cells(first: Record) -> list[str]:
    message = first["message"] or first["status"]
    return [
        code(first["condition"]), str(first["replicate"]), code(first["method"]), escape(message)
    ]  # fmt: skip


def first_failures(study: Path, parts: Sequence[Part]) -> list[Failure]:
    """Failed fits by message, the most frequent first."""
    columns = ["condition", "replicate", "method", "status", "message"]
    found: dict[str, Failure] = {}
    for part in sorted(parts, key=lambda part: (part.first, part.key)):
        fits = read_columns(study / part.path("fits"), columns)
        failed = fits.filter(pc.is_in(fits["status"], FAILED))
        for record in failed.to_pylist():
            key = record["message"] or record["status"]
            known = found.get(key, Failure(0, record))
            found[key] = known._replace(n=known.n + 1)
    return sorted(found.values(), key=lambda failure: -failure.n)


def _reproduction(study: Path) -> str:
    manifest = read_manifest(study)
    text = (study / "scenario.toml").read_text() if (study / "scenario.toml").exists() else ""
    plugin = " --plugin FILE" if '"plugin:' in text else ""
    command = f"mcsim run scenario.toml{plugin} -o {shlex.quote(study.name + '-again')}"
    versions = manifest.get("versions", {}) | {"Python": manifest.get("python", "?")}
    with_versions = ", ".join(f"{name} {version}" for name, version in versions.items())
    machine = " ".join(str(manifest.get(key, "?")) for key in ("system", "machine"))
    return "\n".join(
        [
            "<p>Save the scenario below as <code>scenario.toml</code> (the study's folder has it"
            " too), then:</p>",
            f"<pre><code>{escape(command)}</code></pre>",
            "<p>The files in <code>estimates/</code> are then the same, byte for byte, on the same"
            " type of machine with these versions:</p>",
            f"<p>{escape(with_versions)}; {escape(machine)}. Begun on"
            f" {escape(str(manifest.get('created', '?')))}.</p>",
            f"<details><summary>scenario.toml</summary><pre><code>{escape(text)}</code></pre>"
            "</details>",
        ]
    )


def _bullets(items: Iterable[str]) -> str:
    """A list of HTML pieces."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _table(rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """A table of HTML pieces, the header first, in a box that scrolls if it is too wide."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(
            f'<{tag}{" class=left" * (i < n_left)}>{cell}</{tag}>' for i, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip

    header, *body = rows
    head, lines = line(header, "th"), "".join(line(row, "td") for row in body)
    table = f"<table><thead>{head}</thead><tbody>{lines}</tbody></table>"
    return f'<div class="box">{table}</div>'
