"""Measures on axes: their words and scale, and the value they are held against."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mcsim.measures import SHARES
from mcsim.plots.drawing import Floats, half_width, number
from mcsim.summary.records import Record, has_no_effect

Point = tuple[float | None, float | None]  # a measure and its MCSE, as an axis has them


class Axis(NamedTuple):
    """How a measure is drawn: its words, what its numbers are multiplied by."""

    words: str
    factor: float = 1.0


AXES = {
    "mean": Axis("mean estimate"),
    "bias": Axis("bias"),
    "relative_bias": Axis("relative bias, %", 100.0),
    "median": Axis("median estimate"),
    "q05": Axis("5% quantile of the estimates"),
    "q25": Axis("25% quantile of the estimates"),
    "q75": Axis("75% quantile of the estimates"),
    "q95": Axis("95% quantile of the estimates"),
    "emp_se": Axis("empirical SE"),
    "mse": Axis("mean squared error"),
    "rmse": Axis("RMSE"),
    "rmse_estimation": Axis("RMSE about the realized value"),
    "rmse_sample": Axis("RMSE of the realized value"),
    "model_se": Axis("model SE"),
    "relative_error_se": Axis("error of the model SE, %", 100.0),
    "coverage": Axis("coverage, %", 100.0),
    "be_coverage": Axis("coverage of the mean, %", 100.0),
    "rejection": Axis("rejected, %", 100.0),
    "ci_width": Axis("mean width of the intervals"),
    "median_ci_width": Axis("median width of the intervals"),
    "share_at_zero": Axis("estimates at exactly 0, %", 100.0),
    "expected_coverage": Axis("expected coverage, %", 100.0),
    "expected_rejection": Axis("expected to be rejected, %", 100.0),
    "type_s": Axis("rejections with the wrong sign, %", 100.0),
    "type_m": Axis("exaggeration where rejected"),
    "mde": Axis("effect with 80% power"),
    "equivalence": Axis("equivalence shown, %", 100.0),
}
OF_ONE_SCALE = (  # comparable between parameters
    "relative_bias", "relative_error_se", "coverage", "be_coverage", "rejection", "share_at_zero",
    "expected_coverage", "expected_rejection", "type_s", "type_m", "equivalence",
)  # fmt: skip
OF_THE_TRUTH = ("mean", "median", "q05", "q25", "q75", "q95")
MARKER_ROOM = 0.04  # of an axis
IN_UNITS = (  # of the estimate
    *("bias", "emp_se", "rmse", "rmse_estimation", "rmse_sample", "model_se"),
    *("ci_width", "median_ci_width", "mde"),
    *OF_THE_TRUTH,
)
OF_A_TRUTH = ("bias", "rmse")  # in units of the estimate
NOMINAL = ("coverage", "be_coverage", "expected_coverage")
OF_TESTS = ("rejection", "expected_rejection")
NO_REFERENCE = (
    "share_at_zero", "emp_se", "mse", "rmse", "rmse_estimation", "rmse_sample", "model_se",
    "ci_width", "median_ci_width", "type_s", "type_m", "mde", "equivalence",
)  # fmt: skip


def value_of(record: Record, measure: str) -> Point:
    """A measure and its MCSE as the axis has them."""
    factor = AXES[measure].factor
    value, mcse = record[measure], record[f"{measure}_mcse"]
    return (None if value is None else factor * value), (None if mcse is None else factor * mcse)


def bars_of(points: Sequence[Point], measure: str) -> Floats:
    """Lengths of 95% Monte Carlo intervals below and above points of an axis, (2, n).

    That of a share ends where shares do.
    """
    values = np.array([number(value) for value, _ in points])
    half = np.array([half_width(mcse) for _, mcse in points])
    if measure not in SHARES:
        return np.stack([half, half])
    return np.stack([np.minimum(half, values), np.minimum(half, 100.0 - values)])


def having(records: Sequence[Record], measure: str) -> list[Record]:
    """The rows that have a measure, on the scale of the link where some have one and others not.

    An effect of 0 is 0 on any scale: a difference of counts has an error beside log odds.
    """
    linked = {r["parameter"] for r in records if measure in OF_A_TRUTH and r.get("scale")}
    return [
        r
        for r in records
        if r[measure] is not None and (r.get("scale") or r["parameter"] not in linked)
    ]


def reference(record: Record, measure: str, confidence: float) -> float | None:
    """What the measure is held against, as the axis has it; None where there is nothing."""
    if measure in OF_THE_TRUTH:
        truth: float | None = record["truth"]
        return truth
    if measure in NOMINAL:
        return 100.0 * confidence
    if measure in OF_TESTS:
        return 100.0 * (1.0 - confidence)
    return None if measure in NO_REFERENCE else 0.0


def limit_upright(axis: Axes, measure: str) -> None:
    """Let the upright axis begin at 0, and a share never leave what a share can be."""
    if measure in NO_REFERENCE:
        axis.set_ylim(bottom=0)
    if measure in SHARES:
        axis.set_ylim(limits_of_shares(*axis.get_ylim()))


def share_upright(axes: Sequence[Axes]) -> None:
    """The same upright range for all, so that panels of a measure compare."""
    limits = [axis.get_ylim() for axis in axes]
    for axis in axes:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def limits_of_shares(low: float, high: float) -> tuple[float, float]:
    """The part of an axis in percent on which shares can be, with room for whole markers."""
    room = MARKER_ROOM * (high - low)
    return max(low, -room), min(high, 100.0 + room)


def words_of(record: Record, measure: str) -> str:
    """The words of the axis; of a test, what its rejections are; the unit where a link has one."""
    if measure not in OF_TESTS or record["truth"] is None:
        scale = record.get("scale") if measure in IN_UNITS else ""
        return f"{AXES[measure].words}, {scale}" if scale else AXES[measure].words
    return "type I error, %" if has_no_effect(record) else "power, %"


def words_of_all(records: Sequence[Record], measure: str) -> str:
    """The words of an axis that several records share."""
    words = {words_of(record, measure) for record in records}
    return words.pop() if len(words) == 1 else AXES[measure].words


def heading_of(measure: str) -> str:
    """The words as a heading."""
    words = AXES[measure].words.removesuffix(", %")
    return words if words.isupper() else words[0].upper() + words[1:]


def reference_words(measure: str, confidence: float) -> str:
    """What the legend says of the reference."""
    if measure in OF_THE_TRUTH:
        return "truth"
    if measure in NOMINAL:
        return f"nominal {100 * confidence:g}%"
    if measure in OF_TESTS:
        return f"level of the test, {100 * (1 - confidence):g}%"
    return "no error" if measure == "relative_error_se" else "no bias"
