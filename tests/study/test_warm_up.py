"""Nothing compiles after the announced compilation, whatever is run, planned or fitted."""

import sys

import pytest
from numba.core.registry import CPUDispatcher

from mcsim.scenario.load import load_scenario
from mcsim.study import warm_up
from tests.conftest import call_mcsim

HEAD = """
title = "Kinds"
replicates = 6
seed = 7
"""
NESTED = """
[design]
factors = { diet = ["fasted", "fed"] }
levels = [{ name = "animal", count = 4 }, { name = "image", count = IMAGES }]
observations = { count = 4 }
covariates = { x = { grid = [0.0, 1.0] } }
"""
CROSSED = """
[design]
levels = [{ name = "subject", count = 8 }, { name = "item", count = 6, crossed = true }]
observations = { count = 2 }
"""
TRUTH = """
[truth]
FAMILY
fixed = { Intercept = 0.3 }
random = { OUTER = { sd = { Intercept = 0.6 } }, INNER = { sd = { Intercept = 0.5 } } }
MISSING
"""
METHOD = """
[[methods]]
name = "{}"
formula = "{}"
{}
"""
PLAN = """
[plan]
cost = { animal = 1 }
target = { rejection = "diet[T.fed]", at_least = 0.05 }
search = { "design.levels.animal.count" = [4, 6] }
"""
FAMILIES = {
    "gaussian": "sigma = 0.5",
    "binomial": 'family = "binomial"',
    "probit": 'family = "binomial"\nlink = "probit"',
    "poisson": 'family = "poisson"',
    "nbinom": 'family = "nbinom"\ndispersion = 2.0',
}
INTERCEPTS, SLOPES = "y ~ diet * x + (1 | animal/image)", "y ~ diet * x + (x | animal/image)"
ONE, CROSSING = "y ~ diet * x + (1 | animal)", "y ~ 1 + (1 | subject) + (1 | item)"
LOST = "missing = { observations = 0.2 }"
INTERVALS = ['interval = "profile"', 'interval = "bootstrap"\nresamples = 5']
DF = 'df = ["satterthwaite", "kenward-roger"]'
SEVERAL = [
    *((ONE, f'estimator = "{name}"') for name in ("ols", "ols-cluster", "gee", "two-stage")),
    ("y ~ diet + (1 | animal/image)", 'estimator = "image-means"'),
]
OF_COUNTS = [
    *((ONE, f'estimator = "{name}"') for name in ("glm", "glm-cluster", "gee")),
    *(("y ~ diet + (1 | animal)", f'estimator = "{name}"') for name in ("two-stage",)),
]
RESIDUALS = [
    *((SLOPES, f'residual = "{name}"') for name in ("ar1", "by:diet")),
    ("y ~ diet * x + (x | animal) + (0 + x | animal:image)", 'residual = "exchangeable"'),
]


def kinds():
    """Design, family, methods (formula and what else is said), missing rows."""
    for methods in ([(SLOPES, DF)], *([(INTERCEPTS, one)] for one in INTERVALS), SEVERAL):
        yield NESTED, "gaussian", methods, ""
    for method in RESIDUALS:
        yield NESTED, "gaussian", [method], ""
    for methods in ([(CROSSING, DF)], *([(CROSSING, one)] for one in INTERVALS)):
        yield CROSSED, "gaussian", methods, ""
    for family in [*FAMILIES][1:]:
        yield NESTED, family, [(INTERCEPTS, ""), (SLOPES, "")], ""
        yield NESTED, family, [(INTERCEPTS, "quadrature = 3"), (ONE, "quadrature = 5")], ""
        yield CROSSED, family, [(CROSSING, "")], ""
    for one in INTERVALS:
        yield NESTED, "poisson", [(INTERCEPTS, one)], ""
        yield CROSSED, "poisson", [(CROSSING, one)], ""
    yield NESTED, "binomial", OF_COUNTS, ""
    for family in ("gaussian", "poisson"):
        yield NESTED, family, [(INTERCEPTS, "")], LOST
        yield CROSSED, family, [(CROSSING, "")], LOST
    large = CROSSED.replace("count = 8", "count = 170").replace("count = 6", "count = 165")
    yield large.replace("count = 2", "count = 1"), "gaussian", [(CROSSING, 'df = "z"')], LOST


def scenario_of(design, family, methods, missing, images="3"):
    """Text of a scenario."""
    names = ("animal", "image") if design == NESTED else ("subject", "item")
    text = (
        HEAD
        + design
        + TRUTH
        + "".join(METHOD.format(f"m{n}", *one) for n, one in enumerate(methods))
    )
    for word, own in zip(
        ("FAMILY", "OUTER", "INNER", "MISSING", "IMAGES"),
        (FAMILIES[family], *names, missing, images),
        strict=True,
    ):
        text = text.replace(word, own)
    return text


class Watch:
    """What is compiled, or taken from the cache, of the entry points of the engine."""

    def __init__(self):
        self.parts = None
        self.of_part = {name: self._signatures_of(make) for name, make in warm_up.PARTS.items()}

    def stand_in(self, report, parts=()):
        """In the place of `compile_engine`: nothing is known but what it would have compiled."""
        self.parts = {*parts, *warm_up.FOR_ALL}
        self.forget()

    def silent(self):
        """Names of what was called since and does not belong to what was announced."""
        assert self.parts is not None
        known = set().union(*(self.of_part[name] for name in self.parts))
        return sorted({name for name, _ in self._signatures() - known})

    def forget(self):
        for one in self._dispatchers():
            one._make_finalizer()()
            one._reset_overloads()

    def _signatures_of(self, make):
        self.forget()
        make()
        return self._signatures()

    def _signatures(self):
        return {
            (f"{one.py_func.__module__}.{one.py_func.__name__}", signature)
            for one in self._dispatchers()
            for signature in one.signatures
        }

    def _dispatchers(self):
        modules = [found for name, found in sys.modules.items() if name.startswith("mcsim.engine")]
        found = {id(one): one for module in modules for one in vars(module).values()}
        return [one for one in found.values() if isinstance(one, CPUDispatcher)]


@pytest.fixture(scope="module")
def watch():
    return Watch()


@pytest.fixture
def watched(watch, monkeypatch):
    """The watch in the place of the warm-up, wherever that is called."""
    import mcsim.planning.plan as plan
    import mcsim.planning.starter as starter
    import mcsim.study.run as run

    for module in (warm_up, plan, starter, run):
        monkeypatch.setattr(module, "compile_engine", watch.stand_in)
    watch.parts = None
    return watch


@pytest.mark.parametrize(
    ("parts", "seconds"),
    [((), 20), ((warm_up.CROSSED,), 20), ((warm_up.COUNTS, warm_up.QUADRATURE), 60)],
)
def test_the_announcement_says_how_long_it_takes(parts, seconds, monkeypatch):
    said, done = [], []
    monkeypatch.setattr(warm_up.compiled, "is_cold", lambda name: True)
    monkeypatch.setattr(warm_up, "usable_cpus", lambda: 1)
    monkeypatch.setattr(warm_up, "_compile_part", done.append)
    warm_up.compile_engine(said.append, parts)
    assert sorted(done) == sorted([*parts, *warm_up.FOR_ALL])
    (line,) = said
    assert f"about {seconds} seconds" in line
    assert warm_up.SECONDS.keys() == warm_up.PARTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*kinds()], ids=lambda kind: f"{kind[1]}-{kind[2][0]}"[:70])
def test_nothing_compiles_after_the_warm_up(kind, watched, tmp_path):
    (tmp_path / "kind.toml").write_text(scenario_of(*kind))
    n = 1 if "170" in kind[0] else 6
    done = call_mcsim("run", "kind.toml", "-n", n, "-j1", "-o", "out", cwd=tmp_path)
    assert (done.returncode, watched.silent()) == (0, []), done.stderr
    method = load_scenario(tmp_path / "kind.toml").methods[0]
    if method.estimator not in ("reml", "ml", "laplace") or method.residual is not None:
        return
    call_mcsim("simulate", "kind.toml", "--replicate", 1, "-o", "one.csv", cwd=tmp_path)
    options = [f"--formula={method.formula}", f"--interval={method.interval}"]
    if kind[1] != "gaussian":
        options += ["--family", "binomial" if kind[1] == "probit" else kind[1]]
        options += ["--quadrature", method.quadrature or 1]
    if kind[1] == "probit":
        options += ["--link=probit"]
    done = call_mcsim("fit", "one.csv", *options, cwd=tmp_path)
    assert (done.returncode, watched.silent()) == (0, []), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_nothing_compiles_after_the_warm_up_of_a_plan(family, watched, tmp_path):
    text = scenario_of(NESTED, family, [("y ~ diet + (1 | animal/image)", "")], "") + PLAN
    (tmp_path / "kind.toml").write_text(text)
    done = call_mcsim("plan", "kind.toml", "--max-replicates", 64, cwd=tmp_path)
    assert (done.returncode in (0, 3), watched.silent()) == (True, []), done.stderr
