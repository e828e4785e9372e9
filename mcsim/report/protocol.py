"""What a study does, in words ordered as ADEMP, from its scenario: HTML.

Aims, data-generating mechanism, estimands, methods, performance measures: Morris, White &
Crowther (2019), section 3.
"""

from collections.abc import Collection, Mapping
from html import escape
from itertools import compress
from typing import Any, NamedTuple

from mcsim.names import Parameter, show_value
from mcsim.report.findings import code, listed
from mcsim.scenario.records import CovariateSpec, Scenario
from mcsim.scenario.truth import RandomSpec
from mcsim.study.tables import method_names
from mcsim.summary.selection import Record, Shown, unique
from mcsim.summary.text import shown_as

MAX_DESIGNS = 24  # that are spelt out
UNKNOWN = "the numbers of units are known after the next mcsim run of this study"
# keys of the scenario's tables that have sentences of their own
DESIGN_KEYS = ("response", "factors", "levels", "covariates", "observations")
TRUTH_KEYS = ("sigma", "fixed", "random", "residual")
EFFECT_KEYS = ("sd", "variance", "correlation")
METHOD_KEYS = ("name", "formula", "estimator", "df", "interval", "resamples")
KINDS = {
    "sd": "SD",
    "variance": "variance",
    "correlation": "correlation",
    "icc": "share of the variance",
}
COVARIATES = {
    "grid": "evenly spaced from {0:g} to {1:g} in every innermost unit",
    "uniform": "drawn uniformly between {0:g} and {1:g}",
    "normal": "drawn from a normal distribution with mean {0:g} and SD {1:g}",
}
MEASURES = (
    ("bias", "mean of the estimates less the truth"),
    ("RMSE", "root mean squared error: how far off a single estimate is"),
    ("coverage", "share of the {nominal} intervals that hold the truth"),
    ("rejected", "share of the tests at the {level} level that reject: power, or type I error"
                 " where the truth is 0"),
    ("standard errors", "mean standard error that a method reports, against the SD of its"
                        " estimates, the empirical SE"),
    ("at 0", "share of the estimates of an SD that are exactly 0"),
)  # fmt: skip


class Protocol(NamedTuple):
    """Paragraphs and tables (a header first) of the five parts."""

    aims: list[str]
    mechanism: list[str]
    estimands: list[list[str]]
    methods: list[list[str]]
    measures: list[str]


def protocol(scenario: Scenario, shown: Shown, designs: Mapping[str, str | None]) -> Protocol:
    """The five parts; the estimands are those that the summary has.

    Parameters
    ----------
    designs : in words, by condition; None in folders of format 2
    """
    nominal, level = 100 * scenario.confidence, 100 - 100 * scenario.confidence
    return Protocol(
        aims=_aims(scenario),
        mechanism=_mechanism(scenario, designs),
        estimands=_estimands(shown),
        methods=_methods(scenario),
        measures=[
            f"<b>{name}</b>: {meaning.format(nominal=f'{nominal:g}%', level=f'{level:g}%')}"
            for name, meaning in MEASURES
        ],
    )


def _aims(scenario: Scenario) -> list[str]:
    names = [name for spec in scenario.methods for name in method_names(spec)]
    subject = f"{len(names)} methods recover" if len(names) > 1 else "one method recovers"
    text = f"To find out how well {subject} the parameters that the data were made from"
    if scenario.sweep:
        values = [
            f"{code(key)} is {escape(', '.join(map(show_value, swept)))}"
            for key, swept in scenario.sweep.items()
        ]
        text += f", when {' and '.join(values)}" + ", in all combinations" * (len(values) > 1)
    return [text + "."]


def _mechanism(scenario: Scenario, designs: Mapping[str, str | None]) -> list[str]:
    design, truth = scenario.design, scenario.truth
    lines = _designs(designs)
    for name, levels in design.factors.items():
        outermost, reference = design.levels[0].name, code(levels[0])
        lines.append(
            f"Factor {code(name)} ({listed(levels)}) differs between units of {code(outermost)};"
            f" {reference} is the reference."
        )
    lines += [f"{code(name)}: {_covariate(spec)}." for name, spec in design.covariates.items()]
    lines.append(f"Mean of {code(design.response)}: {_sum(truth.fixed)}.")
    lines += [
        f"Effects of {code(level)}: {_effects(spec)}." for level, spec in truth.random.items()
    ]
    lines.append(f"Residuals: SD {truth.sigma:g}{_others(truth.residual)}.")
    others = _others(design, DESIGN_KEYS) + _others(truth, TRUTH_KEYS)
    lines += [f"{others.removeprefix('; ')}."] if others else []
    if any(key.startswith("truth.") for key in scenario.sweep):
        lines.append("What is swept takes the place of these values.")
    return [*lines, f"{scenario.replicates:,} data sets per condition, seed {scenario.seed}."]


def _sum(coefficients: Mapping[str, float]) -> str:
    """A weighted sum of columns."""
    terms = [f"{'+-'[value < 0]} {abs(value):g} &times; {code(name)}"
             for name, value in coefficients.items() if value]  # fmt: skip
    return " ".join(terms).removeprefix("+ ") or "0"


def _designs(designs: Mapping[str, str | None]) -> list[str]:
    """Units and rows, conditions with the same ones together."""
    labels: dict[str, list[str]] = {}
    for label, words in list(designs.items())[:MAX_DESIGNS]:
        labels.setdefault(words or UNKNOWN, []).append(label)
    if len(labels) == 1:
        lines = [f"Every data set: {escape(words)}." for words in labels]
    else:
        lines = [f"{listed(same)}: {escape(words)}." for words, same in labels.items()]
    n_more = len(designs) - MAX_DESIGNS
    return lines + ([f"{n_more} more conditions."] if n_more > 0 else [])


def _covariate(spec: CovariateSpec) -> str:
    given = {key: value for key in COVARIATES if (value := getattr(spec, key)) is not None}
    level = f", one value per unit of {code(spec.level)}" if spec.level else ""
    for key, ends in given.items():
        return COVARIATES[key].format(*ends) + level
    return f"{escape(show_value(spec.values))} in every innermost unit"


def _effects(spec: RandomSpec) -> str:
    sds = ", ".join(
        f"{value:g} of {code(name)}" for name, value in spec.standard_deviations.items()
    )
    correlation = ""
    if len(spec.columns) > 1:
        given = spec.correlation
        shown = f"{given:g}" if isinstance(given, float) else escape(show_value(given))
        correlation = f"; correlation {shown}"
    return f"SD {sds}{correlation}{_others(spec, EFFECT_KEYS)}"


def _others(spec: Any, known: Collection[str] = ()) -> str:
    """What else a table of the scenario states, as it stands there."""
    if spec is None:
        return ""
    stated = spec.model_dump(exclude_defaults=True, exclude=set(known))
    return "".join(f"; {escape(key)} {escape(show_value(v))}" for key, v in stated.items())


def _estimands(shown: Shown) -> list[list[str]]:
    rows = [["parameter", "kind", "truth"]]
    for name in shown.parameters:
        own = [record for record in shown.records if record["parameter"] == name]
        truths = unique(shown_as(record["truth"], ".6g") for record in own)
        rows.append([code(name), escape(_kind(own[0])), escape(", ".join(truths))])
    return rows


def _kind(record: Record) -> str:
    component = record["component"]
    words = {"fixed": "fixed effect", "residual": "SD of the residuals", "terms": "test of a term"}
    kind = Parameter.read(record["parameter"], component).kind
    return words.get(component) or f"{KINDS[kind]}, {component}"


def _methods(scenario: Scenario) -> list[list[str]]:
    header = ["method", "formula", "estimator", "df", "intervals", "other"]
    rows = []
    for spec in scenario.methods:
        stated: Mapping[str, Any] = spec.model_dump(exclude_defaults=True, exclude=set(METHOD_KEYS))
        other = "; ".join(f"{key} = {show_value(value)}" for key, value in stated.items() if value)
        names = ", ".join(code(name) for name in method_names(spec))
        cells = [spec.formula, spec.estimator, ", ".join(spec.df), spec.interval, other]
        rows.append([names, *map(escape, cells)])
    is_used = [any(column) for column in zip(*rows, strict=True)]
    return [list(compress(row, is_used)) for row in (header, *rows)]
