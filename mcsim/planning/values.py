"""What a design is worth, from replicates in a folder of its own: the value of every goal."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcsim.errors import DataError, nearest_name
from mcsim.measures import Sample
from mcsim.names import MARGINAL, no_effect
from mcsim.planning.control import CONTROL, Control, law_of, with_control
from mcsim.planning.designs import Designs
from mcsim.planning.folder import ADVICE
from mcsim.planning.measured import Told, Value, average_of, value_of
from mcsim.planning.truths import Truths
from mcsim.results.folder import SCENARIO, STATUSES, find_manifest, read_conditions
from mcsim.results.identity import grow
from mcsim.results.ranges import NO_GRID, subtract
from mcsim.results.store import Store, refuse_another_study
from mcsim.scenario.conditions import conditions
from mcsim.scenario.design import TableDesignSpec
from mcsim.scenario.load import load_scenario
from mcsim.scenario.plan import Goal
from mcsim.scenario.records import Scenario
from mcsim.study.prepared import PreparedStudy
from mcsim.study.run import RunOptions, run_prepared
from mcsim.summary.estimates import read_results
from mcsim.summary.records import Record
from mcsim.summary.summarize import Described, alpha_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OF_TESTS, TESTED = ("rejection", "mde", "equivalence"), ("fixed", "term", "own", *MARGINAL)
LEAST_OF_TRUTH = 8  # replicates of each of many truths: an SD is told by all of them together


@dataclass(frozen=True)
class Bench:
    """Where designs are tried: folders below `directory`, one per design.

    methods : names in the results; truths : which every design is tried with
    """

    scenario: Scenario
    designs: Designs
    goals: Sequence[Goal]
    methods: Sequence[str]
    directory: Path
    n_workers: int
    truths: Truths = field(default_factory=lambda: Truths({}))
    _studies: dict[int, PreparedStudy] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def has_control(self) -> bool:
        """Whether a test between the outermost units may help to tell power."""
        is_of_tests = any(goal.measure == "rejection" for goal in self.goals)
        (condition,) = conditions(self.designs.scenario(self.scenario, 0))  # of the stated truth
        return is_of_tests and condition.is_standard and not condition.has_own_rows

    def folder(self, design: int) -> Path:
        """Where the replicates of a design are."""
        return self.directory / self.designs.name(design).replace(", ", ",")

    def values(self, design: int, n: int) -> dict[tuple[str, Goal], list[Value]]:
        """By method and goal, from `n` replicates, which are run if they are missing.

        For every truth from so many, or the average over truths that share them.
        """
        if not self.truths.is_average:
            return self.of_truths(design, n)
        found = self.samples(design, self.n_each(n))
        return {key: [average_of(key[1], samples[1:])] for key, samples in found.items()}

    def n_each(self, n: int) -> int:
        """Replicates of each truth, of `n` in all."""
        return max(LEAST_OF_TRUTH, -(-n // self.truths.n_drawn))

    def of_truths(self, design: int, n: int) -> dict[tuple[str, Goal], list[Value]]:
        """By method and goal, for every truth, from the first `n` replicates."""
        found = self.samples(design, n)
        return {key: [value_of(key[1], one) for one in all_] for key, all_ in found.items()}

    def samples(self, design: int, n: int) -> dict[tuple[str, Goal], list[Told]]:
        """The replicates of a design, with the control of the same data sets if it has one."""
        folder = self.folder(design)
        self._run(design, n)
        conditions = read_conditions(folder)
        found: dict[tuple[str, Goal], list[Told]] = {}
        keys: list[Record] = conditions.to_pylist()
        described = Described(conditions, alpha_of(folder))
        wanted = {goal.parameter for goal in self.goals}
        labels = dict.fromkeys(str(key["condition"]) for key in keys)
        samples: dict[tuple[str, str, str], tuple[Record, Sample]] = {}
        for rows, results in read_results(folder, conditions, STATUSES[:2]):
            for row in rows:
                label, method, name = (
                    keys[row][one] for one in ("condition", "method", "parameter")
                )
                if name in wanted and method in (*self.methods, CONTROL):
                    numbers = first_replicates(n, *results.numbered(row))
                    sample = described.sample([row], [numbers])
                    samples[label, method, name] = keys[row], sample
        for method, goal in itertools.product(self.methods, self.goals):
            found[method, goal] = []
            for label in labels:
                record, sample = samples[label, method, goal.parameter]
                control = None
                if (label, CONTROL, goal.parameter) in samples:
                    _, of_control = samples[label, CONTROL, goal.parameter]
                    is_exact = self._is_even or record.get("theory_df") is not None
                    control = self._control(design, label, goal, of_control, is_exact=is_exact)
                found[method, goal].append(Told(record, sample, control))
        return found

    def _control(
        self, design: int, label: str, goal: Goal, sample: Sample, *, is_exact: bool
    ) -> Control | None:
        if is_exact:
            return Control(sample)
        law = law_of(self._study(design).condition(label), goal.parameter)
        return None if law is None else Control(sample, law)

    @cached_property
    def _is_even(self) -> bool:
        """Whether outermost units have the same rows, so that a t test between them is exact."""
        design = self.scenario.design
        if isinstance(design, TableDesignSpec):
            return False
        inner = [*(level.count for level in design.levels[1:]), design.observations.count]
        outermost = design.level_names[0]
        return all(isinstance(count, int) for count in inner) and all(
            place == outermost for place in design.factor_places.values()
        )

    def _run(self, design: int, n: int) -> None:
        folder, study = self.folder(design), self._study(design)
        if not self._is_there(folder, study, n):
            run_prepared(study, RunOptions(folder, self.n_workers, planned=n, grid=NO_GRID))

    def _is_there(self, folder: Path, study: PreparedStudy, n: int) -> bool:
        """Whether the folder of a design has the first `n` replicates, by all methods."""
        if not (manifest := find_manifest(folder)):
            return False
        refuse_another_study(folder, manifest, study.identity, advice=ADVICE)
        try:
            store = Store.read(folder)
            read_conditions(folder)
        except DataError:
            return False  # who goes on with the study writes them again
        done = store.committed()
        contents = grow(store.contents, study.identity)
        return not any(subtract([(1, n)], done.get(key, ())) for key in contents)

    def _study(self, design: int) -> PreparedStudy:
        """The study of a design, with the control if the design can have it."""
        if design not in self._studies:
            scenario = self.scenario.model_copy(update={"sweep": self.truths.sweep})
            scenario = self.designs.scenario(scenario, design)
            there = find_manifest(self.folder(design)).get("identity", {})
            scenario = _with_methods_of(self.folder(design), there, scenario)
            of_control = there.get(f"methods.{CONTROL}.formula")
            has_control = self.has_control or of_control is not None
            study = PreparedStudy(with_control(scenario, of_control) if has_control else scenario)
            try:
                study.all_conditions()
            except DataError:
                study = PreparedStudy(scenario)
            self._studies.clear()  # the last is the likeliest to be asked again
            self._studies[design] = study
        return self._studies[design]


def first_replicates(n: int, replicates: Ints, numbers: Floats) -> Floats:
    """Numbers (k, ...) of the first n replicates: (k, n), NaN where they lack one."""
    found, is_first = np.full((len(numbers), n), np.nan), replicates <= n
    found[:, replicates[is_first] - 1] = numbers[:, is_first]
    return found


def _with_methods_of(folder: Path, there: Record, scenario: Scenario) -> Scenario:
    """The scenario, going on with the methods of the study in a folder that it has no longer."""
    gone = {*there.get("methods.names", ())} - {CONTROL, *(one.name for one in scenario.methods)}
    if not gone:
        return scenario
    stored = (one for one in load_scenario(folder / SCENARIO).methods if one.name in gone)
    return scenario.model_copy(update={"methods": (*scenario.methods, *stored)})


def refuse_unknown(
    rows: Sequence[Record], goals: Sequence[Goal], method: str, alpha: float
) -> None:
    """Raise a DataError for a goal that no design can reach, or that a method cannot tell.

    rows : of the table of conditions, those of the method
    """
    names = list(dict.fromkeys(str(row["parameter"]) for row in rows))
    for goal in goals:
        own = [row for row in rows if row["parameter"] == goal.parameter]
        if not own:
            near = nearest_name(goal.parameter, names)
            raise DataError(
                f"plan.target: method {method!r} reports no {goal.parameter!r}. It has:"
                f" {', '.join(names)}.{near} The methods of a plan are those of plan.methods"
            )
        if goal.measure in OF_TESTS and own[0]["kind"] not in TESTED:
            raise DataError(
                f"plan.target: {goal.parameter!r} is not tested, so that it has no"
                f" {goal.measure}; take relative_se, rmse, ci_width or coverage"
            )
        if goal.measure == "equivalence" and own[0].get("equivalence_lower") is None:
            raise DataError(
                f"plan.target: {goal.parameter!r} has no limits of equivalence; state them in an"
                " estimand, as equivalence = [-0.1, 0.1]"
            )
        truth, none = own[0]["truth"], no_effect(own[0]["component"])
        if goal.measure == "relative_se" and not truth:
            raise DataError(
                f"plan.target: relative_se of {goal.parameter!r} is relative to its truth, which is"
                f" {truth}; state it, or take rmse"
            )
        if goal.measure == "rejection" and truth == none and (goal.bound or 1.0) > alpha:
            raise DataError(
                f"plan.target: no design can reach {goal}: its truth is {none:g}, so that tests"
                f" reject at their level, {alpha:g}; state the effect in truth.fixed"
            )
