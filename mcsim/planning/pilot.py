"""The pilot study of a plan, `plan.truth.from`: its table as a design, and a fit to it as truth."""

from collections.abc import Mapping, Sequence

import pandas as pd

from mcsim.design.table import Table, table_in
from mcsim.errors import DataError
from mcsim.formula import written_name
from mcsim.methods.one_file import fit_table
from mcsim.planning.fitted_truth import fitted_truth
from mcsim.planning.kept_design import as_read, kept_design, rows_of
from mcsim.scenario.checks import find_problems
from mcsim.scenario.conditions import conditions
from mcsim.scenario.design_table import DesignTable
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.scenario.stated_truth import StatedTruth

KEY = "plan.truth.from"
FITTED = ("reml", "ml")  # estimators whose formula may be fitted to the table
ROWS = "pilot.csv"


def pilot_table(scenario: Scenario) -> DesignTable | None:
    """The table that a plan's truths are drawn from, if it has one."""
    spec = None if scenario.plan is None else scenario.plan.truth
    name = None if spec is None else spec.pilot
    return None if name is None else scenario.tables[name]


def pilot_of(scenario: Scenario) -> Scenario | None:
    """The pilot as a study: the rows of its table, the estimates as truth; None without one.

    Raises
    ------
    DataError
        The formula of no method can be fitted to it.
    """
    file = pilot_table(scenario)
    if file is None:
        return None
    spec = _fitted_method(scenario)
    table = _table(scenario, file, spec)
    try:
        fit = fit_table(table, estimator=spec.estimator)
    except DataError as error:
        raise DataError(f"{KEY}: {file.name}: {error}") from None
    if fit.message:
        raise DataError(
            f"{KEY}: {spec.formula!r} could not be fitted to {file.name} ({fit.status}):"
            f" {fit.message}"
        )
    design, response = kept_design(table, ROWS), scenario.design.response
    raw = {
        "replicates": 1,
        "seed": scenario.seed,
        "design": design | {"response": response, "factors": _that_vary(design["factors"])},
        "truth": fitted_truth(fit, table, 0.0, {}) | {"fixed": {}},
        "methods": [{"name": "mean", "formula": f"{written_name(response)} ~ 1"}],
    }
    tables = {ROWS: as_read(rows_of(table), ROWS)}
    if problems := find_problems(raw, tables):
        sentences = "; ".join(message for _, message in problems)
        raise DataError(f"{KEY}: {file.name} is no design: {sentences}")
    return Scenario.model_validate(raw).with_tables(tables)


def _that_vary(factors: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """A pilot may have been of one group alone."""
    return {name: levels for name, levels in factors.items() if len(levels) > 1}


def with_estimates(scenario: Scenario, pilot: Scenario) -> Scenario:
    """The scenario with the SDs of its pilot; effects stay as they are stated."""
    (stated,) = conditions(scenario.model_copy(update={"plan": None}))
    (seen,) = conditions(pilot)
    old, new = (one.truth.model_dump(exclude_defaults=True) for one in (stated, seen))
    random = {
        name: old.get("random", {}).get(name, {}) | {"correlation": {}} | one
        for name, one in new.get("random", {}).items()
    }
    truth = StatedTruth.model_validate(old | {"sigma": new["sigma"], "random": random})
    return scenario.model_copy(update={"truth": truth})


def _fitted_method(scenario: Scenario) -> MethodSpec:
    """The first method with random effects, those of the plan before others."""
    assert scenario.plan is not None
    named = {*scenario.plan.all_methods}
    all_methods = sorted(scenario.methods, key=lambda one: not named & {*one.result_names})
    for one in all_methods:
        if one.estimator in FITTED and one.parsed.random:
            return one
    raise DataError(
        f"{KEY}: no method has a formula to fit to the pilot's table; add one by"
        f" {' or '.join(FITTED)} with random effects to [[methods]]"
    )


def _table(scenario: Scenario, file: DesignTable, spec: MethodSpec) -> Table:
    """The rows that the formula is fitted to, with the order of the factors' levels."""
    table = table_in(file.file, f"{KEY}: {file.name}", spec.formula)
    frame = table.frame
    known: dict[str, str] = {}
    for name, (first, *_) in scenario.design.factor_levels.items():
        if name in frame and isinstance(frame[name].dtype, pd.CategoricalDtype):
            known |= {name: first} if first in frame[name].cat.categories else {}
    return table_in(file.file, f"{KEY}: {file.name}", spec.formula, known)
