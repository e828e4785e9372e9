"""The table of a study's conditions: what is estimated in each, by what, and what is true.

Who reads it needs no scenario: it has the kind of every parameter, and the words for a condition
and its design.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from mcsim.design.columns import ModelColumns
from mcsim.design.units import Design
from mcsim.design.words import design_in_words
from mcsim.errors import DataError, nearest_name
from mcsim.methods.inference.theory import Theory
from mcsim.methods.method import Method
from mcsim.names import EQUIVALENCE, TOTAL, Parameter, condition_in_words, show_swept
from mcsim.scenario.conditions import Condition
from mcsim.scenario.estimators import estimators_with
from mcsim.scenario.families import FAMILIES_OF
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.scenario.true_values import Truth, truth_of
from mcsim.study.implied_truth import true_value_of
from mcsim.study.tables import parameters_of

THEORY = tuple(f"theory_{name}" for name in Theory._fields)
TEXTS = ("condition", "condition_in_words", "design_in_words", "swept", "method", "parameter")
SCHEMA = pa.schema(  # a column per key of the sweep follows
    [
        *((name, pa.string()) for name in (*TEXTS, "component", "kind", "level")),
        ("numerator_df", pa.int64()),
        *((name, pa.float64()) for name in ("truth", *THEORY)),
    ]
)


class Planned(NamedTuple):
    """A condition with its design; by name, its methods, their columns, what is left open."""

    condition: Condition
    design: Design
    methods: Mapping[str, Method]
    columns: Mapping[str, ModelColumns]
    undetermined: Mapping[str, frozenset[Parameter]]


def conditions_table(scenario: Scenario, planned: Sequence[Planned]) -> pa.Table:
    """One row per condition, method and parameter: what it is, swept values and truth.

    Raises
    ------
    DataError
        A method declares the truth of nothing, or one that there is not; or it has two parameters
        of one name.
    """
    rows, swept = [], _swept_columns([one.condition for one in planned])
    for one in planned:
        truth = truth_of(one.condition.truth, one.design.factors, scenario.estimands)
        described = {
            "condition": one.condition.label,
            "condition_in_words": condition_in_words(one.condition.values),
            "design_in_words": design_in_words(one.design),
            "swept": json.dumps(one.condition.values),
        }
        for spec in scenario.methods:
            _check_declared(spec, one.methods, truth)
            rows += [
                described | row | swept[one.condition.label] for row in _rows(one, spec, truth)
            ]
    _check_reported(scenario, {row["parameter"] for row in rows})
    table = pa.Table.from_pylist(rows, SCHEMA)
    table = _with_limits(table, scenario)
    for key in swept[planned[0].condition.label]:
        table = table.append_column(key, pa.array([row[key] for row in rows]))
    return table


def _rows(planned: Planned, spec: MethodSpec, truth: Truth) -> list[dict[str, Any]]:
    """What a method estimates in a condition, df method by df method."""
    condition, method = planned.condition, planned.methods[spec.name]
    theory = method.theory(truth) if condition.is_standard else {}
    columns, is_open = planned.columns[spec.name], planned.undetermined[spec.name]
    true_value = true_value_of(columns, planned.design, condition, spec, truth)
    return [
        {
            "method": name,
            "parameter": one.name,
            "component": one.component,
            "kind": one.kind,
            "level": one.level,
            "numerator_df": one.numerator_df,
            "truth": None if one in is_open else true_value(one),
            **dict(zip(THEORY, theory.get(df, {}).get(one, Theory(None)), strict=True)),
        }
        for df, name in zip(spec.df, spec.result_names, strict=True)
        for one in parameters_of(spec, planned.methods)
    ]


def _with_limits(table: pa.Table, scenario: Scenario) -> pa.Table:
    """The table with the limits of equivalence, if there are any."""
    limits = {one.name: one.equivalence for one in scenario.estimands if one.equivalence}
    found = [limits.get(name, (None, None)) for name in table["parameter"].to_pylist()]
    for place, column in enumerate(EQUIVALENCE if limits else ()):
        table = table.append_column(column, pa.array([one[place] for one in found], pa.float64()))
    return table


def without_truth(table: pa.Table) -> set[tuple[str, str]]:
    """Methods with fixed effects and SDs that nothing is true of."""
    rows = table.select(["method", "parameter", "kind", "truth"]).to_pylist()
    empty = [one for one in rows if one["truth"] is None and one["kind"] in ("fixed", "sd")]
    return {(one["method"].partition("/")[0], one["parameter"]) for one in empty}


def _check_reported(scenario: Scenario, parameters: Collection[str]) -> None:
    """Raise a DataError for a test, a comparison, or a parameter of [report] that no method has."""
    for name in scenario.report.parameters if scenario.report else ():
        if name not in parameters:
            known = ", ".join(sorted(parameters))
            near = nearest_name(name, parameters)
            raise DataError(
                f"report.parameters: no method reports {name!r}. There are: {known}.{near}"
            )
    for one in scenario.estimands:
        if one.name in parameters:
            continue
        if one.term is not None:
            raise DataError(
                f"the estimand {one.name!r} tests the term {one.term!r}, which no method's formula"
                " has; name one as the rows of terms are named, such as diet or diet:x"
            )
        if one.comparison is not None:
            able = ", ".join(estimators_with(lambda facts: facts.has_means))
            families = " or ".join(map(repr, FAMILIES_OF[one.comparison.kind]))
            raise DataError(
                f"no method reports the estimand {one.name!r}: that takes a formula with"
                f" {one.comparison.factor!r}, family {families}, and one of the estimators {able}"
            )


def _swept_columns(planned: Sequence[Condition]) -> dict[str, dict[str, Any]]:
    """Swept values by condition: as text where those of a key are not all numbers."""
    found: dict[str, dict[str, Any]] = {condition.label: {} for condition in planned}
    own = [key for key in planned[0].values if key not in SCHEMA.names]  # such as all of `truth`
    for key in own:
        given = [condition.values[key] for condition in planned]
        are_numbers = all(isinstance(one, int | float) for one in given)
        for condition, value in zip(planned, given, strict=True):
            found[condition.label][key] = value if are_numbers else show_swept(value)
    return found


def _check_declared(spec: MethodSpec, methods: Mapping[str, Method], truth: Truth) -> None:
    """Raise a DataError where a method declares a truth of nothing, or one that there is not."""
    own = [one.name for one in parameters_of(spec, methods)]
    if twins := [name for name, n in Counter(own).items() if n > 1]:
        raise DataError(
            f"method {spec.name!r} reports {twins[0]!r} twice: the name of an estimand must be none"
            f" of its parameters: {', '.join(dict.fromkeys(own))}"
        )
    known = {one.name for one in truth.parameters} | {*truth.estimands}
    known |= {
        Parameter.of_level(one.kind, TOTAL, *one.columns).name
        for one in truth.parameters
        if one.kind in ("sd", "variance")
    }
    for key, value in spec.truth.items():
        for name, names in ((key, own), (value, sorted(known))):
            if name not in names:
                raise DataError(
                    f"method {spec.name!r} declares the truth of {key!r} as {value!r}; unknown:"
                    f" {name!r}. There are: {', '.join(names)}.{nearest_name(name, names)}"
                )
