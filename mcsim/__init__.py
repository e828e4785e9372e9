"""Monte Carlo studies of nested mixed-effects designs.

The Python interface, loaded when a name is first used: `mcsim --help` needs none of it. Its types
stand in `__init__.pyi`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Study", "compare", "estimator", "fit", "load_scenario", "plan", "plot", "read_estimates",
    "read_fits", "run_study", "summarize",
]  # fmt: skip
_ELSEWHERE = {
    "estimator": "mcsim.scenario.plugin_file",
    "load_scenario": "mcsim.scenario.load",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "mcsim.interface")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
