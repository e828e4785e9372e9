"""One fit of a data file with the engine that studies use."""

import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcsim.design.columns import ModelColumns, model_columns, without_aliased
from mcsim.design.table import References, Table, read_table, table_of
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError, nearest_name
from mcsim.formula import variable_names, written_name
from mcsim.methods.counts import counts_of
from mcsim.methods.identifiability import without
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.likelihood import LikelihoodMethod, Reducers
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method, undetermined
from mcsim.names import ESTIMATES, SCALES, Parameter, link_scale, show_number
from mcsim.scenario.estimators import NAMED_ESTIMATORS, df_of_crossed, estimators_of, facts_of
from mcsim.scenario.families import GAUSSIAN, LINKS, FamilyModel
from mcsim.scenario.limits import CONFIDENCE, number_in

FAR_FROM_ZERO = (
    "(powers of a covariate far from 0, such as a year, are so near to others that 10 digits do not"
    " tell them apart: centre or scale it, or write poly(year, 3))"
)
NO_DF = (
    "the design has too few units for a test of it by containment df, which other effects use up;"
    " --df z goes without df, and finds effects of few units that are not there"
)
NO_ESTIMATE = {
    "dispersion": "the counts vary no more than Poisson's, so that it has no finite estimate",
    "correlation": "an SD is 0, or the data do not tell it",
}


@dataclass(frozen=True)
class ParameterEstimate:
    """One row of the result; None where a number does not exist."""

    parameter: str
    component: str
    estimate: float | None
    std_error: float | None
    df: float | None
    ci_lower: float | None
    ci_upper: float | None
    p_value: float | None


@dataclass(frozen=True)
class FileFit:
    """A fit of a data file."""

    estimator: str
    family: str
    link: str
    quadrature: int | None  # points per random effect, 1 is Laplace's; None for normal responses
    df: str  # method of the fixed effects' tests
    interval: str  # kind of the variance components'
    loglik: float | None
    status: str
    certificate: float | None
    n_obs: int
    aliased: tuple[str, ...]  # fixed effects left out, since those before determine them
    parameters: tuple[ParameterEstimate, ...]
    message: str | None  # why there is no usable fit
    notes: tuple[str, ...]  # what was left out of the data

    @property
    def table(self) -> pd.DataFrame:
        """The estimates, a row per parameter."""
        return pd.DataFrame([asdict(one) for one in self.parameters]).set_index("parameter")

    def __str__(self) -> str:
        return to_table(self)

    def _repr_html_(self) -> str:
        head, remarks = (
            html.escape(text).replace("\n", "<br>")
            for text in (_head(self), "\n".join(_remarks(self)))
        )
        return f"<p>{head}</p>{self.table.to_html(na_rep='-')}" + f"<p>{remarks}</p>" * (
            remarks != ""
        )


def fit_file(
    path: Path,
    formula: str,
    references: References | None = None,
    model: FamilyModel | None = None,
    **options: Any,
) -> FileFit:
    """Fit `formula` to a file with a table; text columns are factors, levels sorted.

    Parameters
    ----------
    references : reference levels, in place of the first
    model : what the response is taken for; None for normal
    options : of `fit_table`

    Raises
    ------
    DataError
        The file or a column cannot be used.
    LikelihoodError
        The likelihood at the estimates is not that of its definition (up to 2,000 rows).
    """
    return fit_table(table_for(path, formula, references, model), model=model, **options)


def table_for(
    path: Path,
    formula: str,
    references: References | None = None,
    model: FamilyModel | None = None,
) -> Table:
    """The rows that a model is fitted to; as `fit_file`."""
    return read_table(path, formula, references, _other_columns(model))


def fit_frame(
    frame: pd.DataFrame,
    formula: str,
    references: References | None = None,
    model: FamilyModel | None = None,
    **options: Any,
) -> FileFit:
    """Fit `formula` to a data frame; as `fit_file`."""
    table = table_of(frame, formula, references, _other_columns(model))
    return fit_table(table, model=model, **options)


def _other_columns(model: FamilyModel | None) -> list[str]:
    """Columns that are needed beside those of a formula."""
    return [] if model is None or not isinstance(model.trials, str) else [model.trials]


def fit_table(
    table: Table, *, estimator: str | None = None, df: str | None = None, interval: str = "wald",
    confidence: float = 0.95, identifiable: bool = True, model: FamilyModel | None = None,
) -> FileFit:  # fmt: skip
    """Fit a table's formula to its rows; as `fit_file`.

    Parameters
    ----------
    df : unless given, containment, or satterthwaite where units cross
    """
    y = table.response if model is None else counts_of(table, model)
    confidence = number_in("confidence", confidence, *CONFIDENCE)
    offered = estimators_of(GAUSSIAN if model is None else model.family)
    estimator = estimator or offered[0]
    if estimator not in NAMED_ESTIMATORS:
        near = nearest_name(str(estimator), offered)
        raise DataError(
            f"there is no estimator {estimator!r}. There are: {', '.join(offered)}.{near}"
        )
    found = model_columns(table.formula, table.frame)
    df = df or (df_of_crossed(estimator) if found.are_crossed else facts_of(estimator).df)[0]
    columns, aliased = without_aliased(_with_whole_codes(found, table.frame))
    aliased = (*aliased, *_of_one_level(table))
    settings = MethodSettings(
        estimator, (df,), confidence, interval=interval, identifiable=identifiable, family=model
    )
    shared = Reducers()
    method = prepare_method(columns, settings, shared)
    is_open = undetermined(method, columns, settings, shared)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # numbers of any size
        analysis = without(method.analyse([method.take(y[None])], np.random.default_rng), is_open)
        if isinstance(method, LikelihoodMethod):
            method.check_against_dense(y)
    parameters = tuple(map(_estimate_of, analysis.estimates[df]))
    fits = analysis.fits
    as_normal = FamilyModel(GAUSSIAN, LINKS[GAUSSIAN][0])
    return FileFit(
        estimator,
        (model or as_normal).family,
        (model or as_normal).link,
        None if model is None else model.quadrature,
        df,
        interval,
        _number(fits.loglik[0]),
        Status(int(fits.status[0])).name.lower(),
        _number(fits.certificate[0]),
        len(y),
        aliased,
        parameters,
        fits.message[0] if np.ptp(y) or model else f"the response is {y[0]:g} in every row",
        table.notes,
    )


def _estimate_of(block: ParameterBlock) -> ParameterEstimate:
    numbers = (_number(getattr(block, name)[0]) for name in ESTIMATES)
    return ParameterEstimate(block.parameter.name, block.parameter.component, *numbers)


def _of_one_level(table: Table) -> list[str]:
    """Factors of the fixed effects that are the same in all rows, and so make no column."""
    return [
        name
        for name in variable_names(table.formula.fixed)
        if table.frame[name].nunique() == 1
        and (name in table.formula.made_factors or table.frame[name].dtype == "category")
    ]


def _with_whole_codes(columns: ModelColumns, frame: pd.DataFrame) -> ModelColumns:
    """The columns with `C(dose)[T.2]` for `[T.2.0]`, where dose is a covariate too."""
    whole = [
        re.escape(written_name(name))
        for name in columns.formula.columns
        if pd.api.types.is_float_dtype(frame[name]) and (frame[name] % 1 == 0).all()
    ]
    call = rf"(?:C|factor)\((?:{'|'.join(whole)})(?:,[^\[]*)?\)"
    pattern = re.compile(rf"({call}\[(?:[A-Z]\.)?-?\d+)\.0\]")

    def renamed(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(pattern.sub(r"\1]", name) if whole else name for name in names)

    levels = tuple(replace(level, names=renamed(level.names)) for level in columns.levels)
    return replace(columns, names=renamed(columns.names), levels=levels)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def to_json(result: FileFit) -> str:
    """The result as one JSON object."""
    return json.dumps(asdict(result), indent=2)


def to_table(result: FileFit) -> str:
    """The result as aligned text."""
    rows = [["parameter", "estimate", "std. error", "df", "lower", "upper", "p"]]
    for one in result.parameters:
        numbers = (one.estimate, one.std_error, one.df, one.ci_lower, one.ci_upper, one.p_value)
        shown = ("-" if v is None else show_number(v, ".5g") for v in numbers)
        rows.append([one.parameter, *shown])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    remarks = [*_remarks(result)]
    return "\n".join([_head(result), "", *lines, *[""] * bool(remarks), *remarks])


def _head(result: FileFit) -> str:
    """How the fit ended, and what was left out."""
    loglik = "-" if result.loglik is None else f"{result.loglik:.4f}"
    certificate = "-" if result.certificate is None else f"{result.certificate:.1e}"
    family = "" if result.family == GAUSSIAN else f", {result.family} ({result.link})"
    estimator = result.estimator.upper()
    if (result.quadrature or 1) > 1:
        estimator = f"ADAPTIVE QUADRATURE with {result.quadrature} points per random effect"
    head = (
        f"{estimator}{family}, {result.n_obs} observations, log-likelihood {loglik},"
        f" {result.status} (first-order conditions hold to {certificate})"
    )
    left_out = [f"left out, since the columns before determine it: {', '.join(result.aliased)}"]
    if any("I(" in name for name in result.aliased):
        left_out.append(FAR_FROM_ZERO)
    return "\n".join([head, *(left_out if result.aliased else [])])


def _remarks(result: FileFit) -> Iterator[str]:
    """What the numbers are of, and why some are not there; nothing of what failed."""
    if result.message:
        return
    if result.link in SCALES:
        yield f"Effects and SDs are {link_scale(result.link)}."
    if result.df == "z":
        yield "df z: tests and intervals of effects are by the normal distribution, without df."
    others = [one for one in facts_of(result.estimator).intervals if one != result.interval]
    lacking: dict[str, list[str]] = {}
    for one in result.parameters:
        parameter = Parameter.read(one.parameter, one.component)
        if one.ci_lower is None and parameter.kind not in ("term", "variance"):
            reason = _why_none(parameter, one).format(" or ".join(others))
            lacking.setdefault(reason, []).append(one.parameter)
    for reason, names in lacking.items():
        yield f"No interval of {', '.join(names)}: {reason}."


def _why_none(parameter: Parameter, one: ParameterEstimate) -> str:
    """Why an estimate has no interval; others are to be put in."""
    if one.estimate is None:
        return NO_ESTIMATE.get(parameter.kind, "the data do not tell it")
    if parameter.kind == "fixed":
        return "the data do not tell its standard error" if one.std_error is None else NO_DF
    if parameter.is_at_edge(one.estimate):
        return (
            "an estimate at the edge of what can be has no standard error; --interval {} may tell"
        )
    return "it could be almost anything, by its standard error; --interval {} may tell more"


FORMATS = {"table": to_table, "json": to_json}
