"""Performance measures of a simulation study, each with its Monte Carlo standard error (MCSE).

Knows arrays only; where they come from and how they are printed is `summary/`'s business. Many rows
(a method and a parameter of a condition each) are measured together.

Letters: `T` estimates, `theta` truth, `R` realized values, `L` and `U` interval limits,
`V` squared standard errors, `S` empirical SD, `n` replicates that the measure at hand can use.
Formulas: Morris, White & Crowther (2019), table 6, but for three MCSEs that hold more widely: of
the empirical SE (estimates that pile up at zero), of the relative error of the standard errors
(they grow with the estimates) and of bias-eliminated coverage (lopsided intervals). What is
undefined is NaN. Sums are pairwise, in replicate order, over what is there: the same bits however
the files were cut and whichever rows are measured together.
"""

from collections.abc import Callable
from functools import partial

from mcsim.measures.counted import (
    NORMAL_QUANTILE,
    be_coverage,
    bias,
    ci_width,
    coverage,
    emp_se,
    mean,
    median,
    median_ci_width,
    model_se,
    mse,
    quantile,
    rejection,
    relative_bias,
    relative_error_se,
    rmse,
    rmse_estimation,
    rmse_sample,
    share_at_zero,
)
from mcsim.measures.expected import (
    equivalence,
    expected_coverage,
    expected_rejection,
    mde,
    type_m,
    type_s,
)
from mcsim.measures.sample import Measure, Sample

__all__ = ["MEASURES", "NORMAL_QUANTILE", "SHARES", "Measure", "Sample", "mcse_bound"]

MEASURES: dict[str, Callable[[Sample], Measure]] = {
    "mean": mean,
    "bias": bias,
    "relative_bias": relative_bias,
    "median": median,
    "q05": partial(quantile, p=0.05),
    "q25": partial(quantile, p=0.25),
    "q75": partial(quantile, p=0.75),
    "q95": partial(quantile, p=0.95),
    "emp_se": emp_se,
    "mse": mse,
    "rmse": rmse,
    "rmse_estimation": rmse_estimation,
    "rmse_sample": rmse_sample,
    "model_se": model_se,
    "relative_error_se": relative_error_se,
    "coverage": coverage,
    "be_coverage": be_coverage,
    "rejection": rejection,
    "ci_width": ci_width,
    "median_ci_width": median_ci_width,
    "share_at_zero": share_at_zero,
    "expected_coverage": expected_coverage,
    "expected_rejection": expected_rejection,
    "type_s": type_s,
    "type_m": type_m,
    "mde": mde,
    "equivalence": equivalence,
}

SHARES = (
    *("coverage", "be_coverage", "rejection", "share_at_zero"),
    *("expected_coverage", "expected_rejection", "type_s", "equivalence"),
)


def mcse_bound(n: int) -> float:
    """What the MCSE of a share is at most, about, where all or none of `n` count.

    Its estimate is 0 then. Half of Wilson's (1927) interval, in SDs: z / (2 n) / (1 + z^2 / n).
    """
    return NORMAL_QUANTILE / (2 * n) / (1 + NORMAL_QUANTILE**2 / n)
