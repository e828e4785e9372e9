"""What else a reader asks of the design that was chosen, and the answer as a sentence to copy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcsim.design.words import design_in_words, factors_in_words
from mcsim.names import Parameter
from mcsim.planning.designs import Designs
from mcsim.planning.measured import Value
from mcsim.planning.screen import columns_in
from mcsim.planning.search import Look
from mcsim.planning.values import Bench
from mcsim.scenario.conditions import conditions
from mcsim.scenario.plan import Goal
from mcsim.scenario.records import MethodSpec, Scenario
from mcsim.scenario.true_values import truth_of
from mcsim.simulate.responses import prepare_simulator
from mcsim.study.implied_truth import true_value_of
from mcsim.summary.effects import along_effects
from mcsim.summary.records import Record
from mcsim.summary.summarize import summarize

OF_TRUTH = 64  # replicates of each truth, to tell how values differ between them
TAILS = 0.1, 0.9
MANY_FAILED = 0.01  # share of fits, from which on it is said
TOO_OFTEN = 1.5  # times the level: a type I error that is said to be no 5%
WHAT = {
    "rejection": "the power to detect {0}{1}",
    "equivalence": "the probability to show that {0} lies within its limits",
    "coverage": "the coverage of the interval of {0}",
    "relative_se": "the relative standard error of {0}",
    "ci_width": "the mean width of the interval of {0}",
    "rmse": "the root mean square error of {0}",
    "mde": "the smallest {0} with 80% power",
}


class Chosen(NamedTuple):
    """The answer: a design, by a method, with what was seen of it."""

    designs: Designs
    goals: Sequence[Goal]
    method: str
    look: Look
    is_certified: bool


def details_of(chosen: Chosen, bench: Bench, effects: Sequence[float]) -> Record:
    """Level and sensitivity of a test, how values differ between truths, the answer in words."""
    tested = [one for one in chosen.goals if one.measure == "rejection"]
    found: Record = of_test(chosen, bench, tested[0], effects) if tested else {}
    if (failed := _share_failed(chosen, bench)) > MANY_FAILED:
        found["failed"] = failed
    if bench.truths.sweep:
        found["truths"] = _of_truths(chosen, bench)
    return found | {"in_words": _in_words(chosen, bench, found)}


def _share_failed(chosen: Chosen, bench: Bench) -> float:
    """The share of the fits of the design by the method that are not usable."""
    rows = summarize([bench.folder(chosen.look.design)]).to_pylist()
    fits = {row["condition"]: row for row in rows if row["method"] == chosen.method}.values()
    n_all = sum(row["n_replicates"] for row in fits)
    return sum(row["n_failed"] for row in fits) / n_all if n_all else 0.0


def of_test(chosen: Chosen, bench: Bench, goal: Goal, effects: Sequence[float]) -> Record:
    """Type I error, minimal detectable effect, power at other effects; with truths, on average."""
    folder = bench.folder(chosen.look.design)
    key = (chosen.method, goal.parameter)

    def own(rows: Sequence[Record]) -> list[Record]:
        return [row for row in rows if (row["method"], row["parameter"]) == key]

    rows = own(summarize([folder]).to_pylist())
    if not all(row["n_expected"] for row in rows):
        return {}
    curve = own(along_effects([folder], [0.0, *effects]).to_pylist())
    power = [
        float(np.mean([r["expected_rejection"] for r in curve if r["effect"] == effect]))
        for effect in (0.0, *effects)
    ]
    told = [
        {"effect": effect, "rejection": one} for effect, one in zip(effects, power[1:], strict=True)
    ]
    mde = rows[0]["mde"] if len(rows) == 1 else None
    return {"type_1": power[0], "mde": mde, "effects": told}


def _of_truths(chosen: Chosen, bench: Bench) -> Record:
    """How the first value goes with the truth: the worst one, or the spread over those drawn."""
    goal, truths = chosen.goals[0], bench.truths
    n = chosen.look.values[goal].n
    if truths.is_average:
        n = max(OF_TRUTH, bench.n_each(n))
    values = bench.of_truths(chosen.look.design, n)[chosen.method, goal]
    all_values = np.array([one.value for one in values])
    if not truths.is_average:
        worst = int(np.argmin(all_values) if goal.is_share else np.argmax(all_values))
        study = bench.scenario.model_copy(update={"sweep": truths.sweep, "plan": None})
        return {"n": len(values), "worst": list(conditions(study))[worst].values}
    stated, drawn = all_values[0], _without_noise(values[1:])
    told = np.array([stated, *np.quantile(drawn, TAILS)])
    told = np.clip(told, 0.0, 1.0) if goal.is_share else told
    return {"n": len(drawn)} | dict(zip(("stated", "low", "high"), told.tolist(), strict=True))


def _without_noise(values: Sequence[Value]) -> np.ndarray:
    """Values drawn together to the spread that they have beside their Monte Carlo error."""
    found = np.array([one.value for one in values])
    noise = float(np.mean([one.spread**2 / one.n for one in values]))
    seen = float(np.var(found))
    kept = np.sqrt(max(0.0, 1.0 - noise / seen)) if seen > 0.0 else 0.0
    return np.asarray(found.mean() + kept * (found - found.mean()))


def _in_words(chosen: Chosen, bench: Bench, found: Record) -> str:
    """The answer as a sentence that can stand in an application for money."""
    designs, look, (goal, *_) = chosen.designs, chosen.look, chosen.goals
    scenario = designs.scenario(bench.scenario, look.design)
    (condition,) = conditions(scenario)
    design = prepare_simulator(condition, scenario.seed).design
    factors = [one for one in factors_in_words(design, design.factors) if "units of" in one]
    value = look.values[goal]
    spec = next(one for one in scenario.methods if chosen.method in one.result_names)
    stated = truth_of(condition.truth, design.factors, scenario.estimands)
    true_value = true_value_of(columns_in(design, spec), design, condition, spec, stated)
    truth = true_value(Parameter.read(goal.parameter))
    size = f" = {truth:g}" if truth else ""
    level = f" at the {100 * (1 - scenario.confidence):g}% level" * (goal.measure == "rejection")
    cost = f"{designs.cost[look.design]:,.10g}"
    method, what = _method_in_words(bench.scenario, chosen.method), WHAT[goal.measure]
    one_draw = " (one draw; every simulated study has its own)" * condition.design.redraw
    return (
        f"We plan {design_in_words(design)}{''.join(f' ({one})' for one in factors)}, for a cost of"
        f" {cost}{one_draw}. Analysed by {method}, {what.format(goal.parameter, size)}{level} is"
        f" {shown(goal, value.estimate)} ({shown(goal, value.lower)} to {shown(goal, value.upper)},"
        f" {value.n:,} simulated studies).{_failed_in_words(found)}"
        f"{_level_in_words(found, 1 - scenario.confidence)}"
        f"{_truths_in_words(goal, found.get('truths'))}{_rest(chosen)}"
    )


def _method_in_words(scenario: Scenario, name: str) -> str:
    spec: MethodSpec = next(one for one in scenario.methods if name in one.result_names)
    df = name.rpartition("/")[2] if len(spec.result_names) > 1 else next(iter(spec.df), "")
    return f"{spec.formula} ({', '.join(filter(None, [spec.estimator, df]))})"


def _failed_in_words(found: Record) -> str:
    """That the analysis cannot be made in many studies, which no value counts."""
    if "failed" not in found:
        return ""
    return (
        f" In {100 * found['failed']:.1f}% of all studies that were simulated this analysis was not"
        " possible; they do not count here."
    )


def _level_in_words(found: Record, level: float) -> str:
    """That a test rejects far too often where there is nothing, which makes power worth nothing."""
    if found.get("type_1", 0.0) <= TOO_OFTEN * level:
        return ""
    return (
        f" But where there is no effect, this test rejects in {100 * found['type_1']:.1f}%, not in"
        f" {100 * level:g}%: its power cannot be held against that of other methods."
    )


def _truths_in_words(goal: Goal, truths: Record | None) -> str:
    if truths is None:
        return ""
    if "worst" in truths:
        return f" That is for the worst of {truths['n']} truths."
    side = "less" if goal.is_share else "more"
    tail = truths["low"] if goal.is_share else truths["high"]
    return (
        f" It is the average over {truths['n']} truths that a pilot study leaves open: one in ten"
        f" gives {side} than {shown(goal, tail)}; if the estimates of the pilot were true, it were"
        f" {shown(goal, truths['stated'])}."
    )


def _rest(chosen: Chosen) -> str:
    """What is known of the other designs."""
    n = len(chosen.designs.cost)
    if not chosen.is_certified:
        return ""
    if chosen.goals[0].bound is None:
        return f" No other of {n:,} designs does better for the money."
    return f" No cheaper one of {n:,} designs does as well."


def shown(goal: Goal, value: float) -> str:
    """A share in percent, another value as it is."""
    return f"{100 * value:.1f}%" if goal.is_share else f"{value:.4g}"
