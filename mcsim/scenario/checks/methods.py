"""What is wrong between methods, and with methods and estimands, given the names of the design."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import Any

from mcsim.formula import parse_formula, variable_names, written_name
from mcsim.names import MARGINAL, TOTAL, Parameter, derived_names, show_value
from mcsim.scenario.checks.columns import (
    columns_problems,
    lacking,
    lacking_level,
    unknown,
    variable_problems,
)
from mcsim.scenario.checks.draft import Draft, numbered
from mcsim.scenario.design import DesignNames
from mcsim.scenario.estimand import EstimandSpec
from mcsim.scenario.estimators import estimators_with, facts_of
from mcsim.scenario.keys import Finding, KeyPath
from mcsim.scenario.records import MethodSpec

KINDS = ("fixed", "term", *MARGINAL)  # keys of an estimand that say what it is
_COMPARABLE = sorted(estimators_with(lambda facts: facts.likelihood))


def method_problems(draft: Draft) -> Iterator[Finding]:
    """Names used twice, formulas that the design lacks names for, methods that do not compare."""
    methods = numbered(draft.scenario.methods)
    yield from _repeated("method", methods, "; each needs its own")
    if draft.names is None:
        return
    for number, method in methods.items():
        yield from _formula_problems(number, method, draft.names)
        yield from _other_method_problems(number, method, methods.values())


def _repeated(
    kind: str, records: Mapping[int, MethodSpec | EstimandSpec], more: str = ""
) -> Iterator[Finding]:
    """Names that an earlier record of the list has."""
    earlier: set[str] = set()
    for number, record in records.items():
        if record.name in earlier:
            message = f"the name {record.name!r} is that of an earlier {kind}{more}"
            yield (f"{kind}s", number, "name"), message
        elif record.name is not None:
            earlier.add(record.name)


def _formula_problems(number: int, method: MethodSpec, names: DesignNames) -> Iterator[Finding]:
    for message in _misfits(method.formula, names) if method.formula is not None else ():
        yield ("methods", number, "formula"), message
    where = f"methods.{method.name or number + 1}.structure"
    for level in method.structure or ():
        yield from lacking_level(("methods", number, "structure", level), level, where, names)


def _misfits(text: str, names: DesignNames) -> Iterator[str]:
    formula = parse_formula(text)
    if formula.response != names.response:
        response = f"design.response is {names.response!r}"
        yield f"the response of the formula is {formula.response!r}, but {response}"
    elif formula.measured != written_name(formula.response):
        yield (
            f"a method is fitted to the response as it is simulated, not to {formula.measured}: its"
            " estimates would have no truth to compare with"
        )
    yield from variable_problems(formula.columns, names)
    levels = names.level_names
    seen: dict[tuple[str, str], tuple[str, ...]] = {}
    for term in formula.random:
        if lacked := [name for name in term.group if name not in levels]:
            yield unknown("level", lacked[-1], levels, where=f" in {text!r}")
            continue
        ordered = sorted(term.group, key=levels.index)
        twin = seen.setdefault((ordered[-1], term.columns), term.group)
        if twin != term.group and ordered[-1] not in names.crossed_levels:  # those make pairs
            yield f"{'/'.join(term.group)} is not outermost first; write {'/'.join(ordered)}"


def _other_method_problems(
    number: int, method: MethodSpec, methods: Iterable[MethodSpec]
) -> Iterator[Finding]:
    others = {one.name: one for one in methods if one.name not in (None, method.name)}
    for key in ("fallback", "likelihood_ratio"):
        path, name = ("methods", number, key), getattr(method, key)
        yield from lacking(path, "method", name, others, "There are, beside this one")
        if key == "likelihood_ratio" and name in others:
            yield from ((path, message) for message in _incomparable(method, others[name]))


def _incomparable(larger: MethodSpec, smaller: MethodSpec) -> Iterator[str]:
    """Why the likelihoods of two methods say nothing about each other."""
    estimators = [larger.estimator, smaller.estimator]
    if None in estimators:
        return
    likelihoods = {facts_of(one).likelihood for one in estimators}
    if None in likelihoods or len(likelihoods) > 1:
        allowed = ", or both ".join(map(repr, _COMPARABLE))
        yield f"both methods need estimator {allowed}; they have {estimators}"
    elif likelihoods == {"REML"} and larger.formula and smaller.formula:
        fixed = [{*variable_names(one.parsed.fixed)} for one in (larger, smaller)]
        if fixed[0] != fixed[1]:  # else their columns tell
            yield "REML likelihoods of different fixed effects do not compare; use estimator 'ml'"


def estimand_problems(draft: Draft) -> Iterator[Finding]:
    """Names used twice, sums of unknown effects, quantities of unknown levels."""
    if draft.names is None:
        return
    estimands = numbered(draft.scenario.estimands)
    yield from _repeated("estimand", estimands)
    for number, estimand in estimands.items():
        path = ("estimands", number)
        yield from columns_problems((*path, "fixed"), estimand.fixed or (), draft.names)
        if estimand.name is not None:
            given = {name for name in KINDS if getattr(estimand, name) is not None}
            given |= {name for name in KINDS if (*path, name) in draft.faulty}
            yield from _test_problems(path, estimand, given)
            yield from _comparison_problems(path, estimand, given, draft)
            if estimand.fixed is not None and all(one == 0 for one in estimand.fixed.values()):
                yield (*path, "fixed"), "no weight but 0, so nothing to estimate: write { x = 1 }"
            yield from _quantity_problems(path, estimand.name, draft.names, is_own=bool(given))


def _test_problems(path: KeyPath, estimand: Any, given: Collection[str]) -> Iterator[Finding]:
    """Why an estimand is not the test of a term, or cannot be shown to be next to none."""
    if len(given) > 1:
        first, *others = (name for name in KINDS if name in given)
        message = f"an estimand is one thing, and this has {first!r} too; leave one out"
        yield from (((*path, name), message) for name in others)
    if estimand.test is not None and "term" not in given:
        yield (*path, "test"), "`test` is of a term: name it, term = 'diet', or leave `test` out"
    if estimand.equivalence is not None and "fixed" not in given:
        message = "`equivalence` is of a sum of fixed effects: add `fixed`, such as { x = 1 }"
        yield (*path, "equivalence"), message


def _comparison_problems(
    path: KeyPath, estimand: EstimandSpec, given: Set[str], draft: Draft
) -> Iterator[Finding]:
    """Why an estimand compares no two levels of a factor."""
    comparison = estimand.comparison
    if estimand.levels is not None and not given & {*MARGINAL}:
        keys = ", ".join(MARGINAL)
        message = f"`levels` are those that one of {keys} compares; name the factor there, or leave"
        yield (*path, "levels"), f"{message} `levels` out"
    if comparison is None or draft.names is None:
        return
    kind, factor, levels = comparison
    known = draft.names.factor_levels
    yield from lacking((*path, kind), "factor", factor, known)
    own = known.get(factor, ())
    for level in levels if levels and own else ():
        yield from lacking((*path, "levels"), "level", level, own, f"{factor!r} has")
    if len(own) > 2 and levels is None and (*path, "levels") not in draft.faulty:
        two = show_value([own[0], own[1]])
        message = f"{factor!r} has {len(own)} levels; say which two, such as levels = {two}"
        yield (*path, kind), message


def _quantity_problems(
    path: KeyPath, name: str, names: DesignNames, *, is_own: bool
) -> Iterator[Finding]:
    """Why a name is none of a sum or test of fixed effects, or none of a derived quantity."""
    parameter = Parameter.read(name)
    if not parameter.is_derived and not is_own:
        allowed = "; ".join(derived_names(names.level_names))
        needed = "".join(f"`{one}`, " for one in KINDS)
        message = f"the estimand {name!r} needs {needed}or one of the names: {allowed}"
        yield path, message
    elif parameter.is_derived and is_own:
        yield (*path, "fixed"), f"{name!r} is made of variances; give the estimand another name"
    elif parameter.is_derived and parameter.level not in (TOTAL, *names.level_names):
        yield from lacking_level((*path, "name"), str(parameter.level), repr(name), names)
    elif parameter.is_derived:
        for _, message in columns_problems(path, parameter.columns, names):
            yield (*path, "name"), message
