"""An unbalanced data set of three groups, and the rows that an estimator gives for it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mcsim.design.columns import model_columns
from mcsim.formula import parse_formula
from mcsim.methods.inference.fixed_effects import ParameterBlock
from mcsim.methods.method import MethodSettings
from mcsim.methods.registry import prepare_method
from mcsim.names import ESTIMATES

FULL = "y ~ dose * x + (1 | animal/image)"


def unbalanced_frame() -> pd.DataFrame:
    """Ten animals in three groups, 2 to 4 images each, 3 to 6 points per image, in no order."""
    generator = np.random.default_rng(20240501)
    rows = []
    for animal in range(10):
        for image in range(generator.integers(2, 5)):
            rows += [(animal, 10 * animal + image)] * generator.integers(3, 7)
    frame = pd.DataFrame(rows, columns=["animal", "image"])
    frame["dose"] = pd.Categorical.from_codes(frame["animal"] % 3, ["none", "low", "high"])
    frame["x"] = generator.uniform(-1.0, 2.0, len(frame))
    return frame.sample(frac=1.0, random_state=3).reset_index(drop=True)


def responses(frame: pd.DataFrame, n_replicates: int = 5) -> np.ndarray:
    """Responses with animal and image effects: (n_replicates, n_rows)."""
    generator = np.random.default_rng(7)
    animals, images = frame["animal"].to_numpy(), frame["image"].to_numpy()
    slopes = 1.0 + 0.5 * generator.standard_normal((n_replicates, 10))
    y = 3.0 + slopes[:, animals] * frame["x"].to_numpy()
    y += generator.standard_normal((n_replicates, 10))[:, animals]
    y += 0.5 * generator.standard_normal((n_replicates, 200))[:, images]
    return y + generator.standard_normal((n_replicates, len(frame)))


def analyse(
    frame: pd.DataFrame, y: np.ndarray, formula: str, settings: MethodSettings, *, block: int = 3
) -> dict[str, Mapping[str, ParameterBlock]]:
    """Estimates by df method and parameter; the responses are taken in blocks."""
    method = prepare_method(model_columns(parse_formula(formula), frame), settings)
    taken = [method.take(y[first : first + block]) for first in range(0, len(y), block)]
    analysis = method.analyse(taken, np.random.default_rng)
    assert [one.name for one in method.parameters()] == [
        one.parameter.name for one in next(iter(analysis.estimates.values()))
    ]
    return {
        df: {one.parameter.name: one for one in blocks} for df, blocks in analysis.estimates.items()
    }


def table(rows: Mapping[str, ParameterBlock], names: list[str], replicate: int) -> np.ndarray:
    """Numbers of one replicate: (n_names, n_measures)."""
    return np.array([[getattr(rows[name], key)[replicate] for key in ESTIMATES] for name in names])
