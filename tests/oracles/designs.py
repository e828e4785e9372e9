"""Random nested designs of every kind: what the engine must be right on, not what is common."""

from dataclasses import dataclass

import numpy as np

from mcsim.engine.compile import Level

MAX_ROWS = 120  # the oracle is an n x n likelihood


@dataclass(frozen=True)
class RandomDesign:
    """X, the levels of the random effects, outermost first, and a response."""

    X: np.ndarray
    levels: tuple[Level, ...]
    y: np.ndarray

    @property
    def names(self):
        return tuple(f"b{i}" for i in range(self.X.shape[1]))

    @property
    def groups(self):
        """What the dense likelihood takes."""
        return [(level.unit_of_row, level.Z) for level in self.levels]


def draw_design(seed, n_levels=None):
    """A design of 1 to 4 levels, most of them unbalanced, some with rows lost or units of one row.

    Columns are drawn from: the intercept, covariates that vary between the units of a level or
    within all, factors between and within, products. A level may have more of them than any of its
    units has rows, and columns that are constant within each of its units.
    """
    generator = np.random.default_rng(seed)
    n_levels = n_levels or int(generator.integers(1, 5))
    units = _draw_units(generator, n_levels)
    while len(units) < 9:  # more than there can be fixed effects
        units = _draw_units(generator, n_levels)
    pool = _pool(generator, units)
    X = _independent(pool, 1 + generator.permutation(len(pool) - 1)[: generator.integers(0, 4)])
    levels = tuple(_draw_level(generator, units[:, depth], pool) for depth in range(n_levels))
    return RandomDesign(X, levels, _draw_response(generator, levels, X))


def _draw_units(generator, n_levels):
    """Unit numbers (n_rows, n_levels), unique over the whole design."""
    is_balanced = generator.random() < 0.2
    units = np.arange(generator.integers(3, 7))[:, None]
    for depth in range(n_levels):
        most = 5 if depth == n_levels - 1 else 3
        least = 1 if generator.random() < 0.5 else 2
        counts = generator.integers(least, most + 1, size=len(units))
        counts = np.full(len(units), most - 1) if is_balanced else counts
        units = np.hstack([np.repeat(units, counts, axis=0), np.arange(counts.sum())[:, None]])
    units = units[:MAX_ROWS, :-1]  # the last column numbers the rows
    if generator.random() < 0.3:
        units = units[generator.random(len(units)) > 0.1]
    return units[generator.permutation(len(units))] if generator.random() < 0.3 else units


def _pool(generator, units):
    """Columns (n_columns, n_rows), the intercept first."""
    n, n_levels = units.shape
    few = generator.random() < 0.5  # so that units may be alike
    x = generator.integers(0, 3, size=n).astype(float) if few else generator.normal(size=n)
    columns = [np.ones(n), x, x**2]
    for depth in range(n_levels):
        n_units = int(units[:, depth].max()) + 1
        columns.append(generator.normal(size=n_units)[units[:, depth]])
        group = generator.integers(0, 2 + (depth == 0), size=n_units)[units[:, depth]]
        columns += [(group == number).astype(float) for number in np.unique(group)]
        columns.append(x * columns[-1])
    treatment = generator.integers(0, 3, size=n)
    columns += [(treatment == number).astype(float) for number in range(3)]
    scale = generator.choice([1.0, 1e-3, 50.0], size=len(columns), p=[0.8, 0.1, 0.1])
    return np.array(columns) * np.where(np.arange(len(columns)) == 0, 1.0, scale)[:, None]


def _independent(pool, wanted, first=(0,)):
    """Columns of the pool, less those that the ones before determine: (n_rows, p)."""
    kept = []
    for number in (*first, *wanted):
        trial = np.column_stack([*kept, pool[number]])
        length = np.linalg.norm(trial, axis=0)
        if length.min() > 0 and np.linalg.svd(trial / length)[1].min() > 1e-3:
            kept.append(pool[number])
    return np.column_stack(kept)


def _draw_level(generator, unit_of_row, pool):
    """Random columns and their structure; one in ten levels has none."""
    if generator.random() < 0.1:
        return Level(unit_of_row, np.zeros((len(unit_of_row), 0)), (), ())
    wanted = generator.permutation(len(pool))[: generator.integers(1, 5)]
    first = (0,) if generator.random() < 0.6 else ()
    Z = _independent(pool, wanted, first) if first else _independent(pool, wanted[1:], wanted[:1])
    q = Z.shape[1]
    kind = str(generator.choice(["general", "diagonal", "identity", "compound", "two"]))
    structures = {
        "diagonal": (("general", 1),) * q,
        "two": (("general", 1), ("general", q - 1)) if q > 1 else (("general", 1),),
    }.get(kind, ((kind, q),))
    return Level(unit_of_row, Z, structures, tuple(f"z{i}" for i in range(q)))


def _draw_response(generator, levels, X):
    """From nothing but noise to effects that are large beside it."""
    y = X @ generator.normal(size=X.shape[1]) + generator.normal(size=len(X))
    for level in levels:
        sd = generator.choice([0.0, 0.3, 1.0, 5.0])
        effects = generator.normal(size=(int(level.unit_of_row.max()) + 1, level.Z.shape[1]))
        y += sd * np.sum(effects[level.unit_of_row] * level.Z, axis=1)
    return y
