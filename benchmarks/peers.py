"""Other programs that fit the model of the seed scenario, to compare with."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import pandas as pd


@dataclass(frozen=True)
class PeerFit:
    """What a program says of one fit; None where it does not tell."""

    loglik: float | None
    seconds: float


def fit_with_statsmodels(frame: pd.DataFrame) -> PeerFit:
    """MixedLM, REML; it cannot correlate the effects of images, so it fits a smaller model."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    components = {"image": "0 + C(image)", "image_x": "0 + C(image):x"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on boundaries, which are no matter here
        started = time.perf_counter()
        model = MixedLM.from_formula(
            "y ~ diet * x", frame, groups="animal", re_formula="~x", vc_formula=components
        )
        result = model.fit(reml=True)
    return PeerFit(float(result.llf), time.perf_counter() - started)


PEERS: dict[str, Callable[[pd.DataFrame], PeerFit]] = {"statsmodels": fit_with_statsmodels}
CANNOT: dict[str, str] = {}
DISTRIBUTIONS: tuple[str, ...] = ()


def installed_peers() -> dict[str, Callable[[pd.DataFrame], PeerFit]]:
    """The programs that are installed."""
    return {name: fit for name, fit in PEERS.items() if find_spec(name) is not None}
