"""Measure, print a table, and write benchmarks/RESULTS.md and the figures of growth.

python -m benchmarks [--quick]
"""

import argparse
import platform
import tempfile
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import counts, crossed, peers, scale, scenarios, sweep, timing
from benchmarks.plans import plan_rows
from benchmarks.scenarios import LARGE, LOST, REDRAWN, UNBALANCED

HERE = Path(__file__).parent
N_ROUNDS = 5
PACKAGES = ("mcsim", "numpy", "numba", "scipy", "pyarrow", "statsmodels", *peers.DISTRIBUTIONS)

RESULTS = """# Benchmark results

Written by `python -m benchmarks`, all in one run. Times depend on the machine, ratios less.

{machine}

| what | measured | wanted |
|---|---|---|
{rows}

Other programs, one call that fits the general model to one data frame, against mcsim's time per
fit of a block of 500 data sets with the same design: what a study costs. A single fit with mcsim,
design included, takes {single:.0f} ms.

| program, design | milliseconds | times mcsim's time per fit | its log-likelihood less mcsim's |
|---|---|---|---|
{peers}

Counts and proportions, 1,000 rows; milliseconds of one fit, mcsim's in a block of 200:

| program, model | milliseconds | times mcsim's | its log-likelihood less mcsim's |
|---|---|---|---|
{counts}

Limits of these programs:

{others}

![How the time of a fit and of a study grows](growth.png)
"""
Row = tuple[str, ...]  # what, measured, wanted


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the replicates")
    size = 10 if parser.parse_args().quick else 1
    timing.run_study(10, 1)  # compiles, where that was not done yet
    rows = []
    for measured in (
        partial(study_rows, size), fit_rows, own_rows, interval_rows, crossed_rows, start_rows,
        sweep_rows,
        partial(scale.million_rows, 1_000_000 // size), partial(scale.wide_rows, 2_000 // size),
        scale.dask_rows, plan_rows, report_rows,
    ):  # fmt: skip
        for row in measured():
            print(" | ".join(row), flush=True)
            rows.append(row)
    peer_rows = compare_with_peers()
    plot_growth()
    text = report(rows, peer_rows)
    print(text)
    if size == 1:
        (HERE / "RESULTS.md").write_text(text)


def study_rows(size: int) -> list[Row]:
    """Whole studies, from the scenario file to the summary."""
    few, many = 2_000 // size, 20_000 // size
    rounds = np.array([_study_round(few, many) for _ in range(N_ROUNDS)])
    draw, one = np.median(rounds[:, :2], axis=0)
    # a machine's speed drifts: only figures of the same round are compared
    to_normals, speedup = np.median(rounds[:, [1, 1]] / rounds[:, [0, 2]], axis=0)
    seconds, memory = timing.run_study(100_000 // size, 2)
    return [
        ("5,000 standard normals, numpy", f"{draw:.0f} us", ""),
        ("seed scenario, both methods, per replicate", f"{one:.0f} us", ""),
        ("... as a multiple of its normals", f"{to_normals:.2f}", "at most 2"),
        ("... with two workers, times as many per second", f"{speedup:.2f}", "at least 1.9"),
        ("... with both Satterthwaite and Kenward-Roger df", f"{timing.df_ratio():.2f}", "1.2"),
        (f"{100_000 // size:,} replicates, two workers", f"{seconds:.1f} s", "under 60 s"),
        ("... largest memory of a process", f"{memory:.0f} MB", "under 400 MB"),
    ]


def _study_round(few: int, many: int) -> tuple[float, float, float]:
    """Microseconds of 5,000 normals, and per further replicate with one and two workers."""

    def per_replicate(n_workers: int) -> float:
        short, long = (timing.run_study(n, n_workers)[0] for n in (few, many))
        return 1e6 * (long - short) / (many - few)

    before = timing.normals_us()
    one = per_replicate(1)
    return (before + timing.normals_us()) / 2, one, per_replicate(2)


def fit_rows() -> list[Row]:
    """Fits alone."""
    small, evaluations = timing.fit_us([], 500)
    large, _ = timing.fit_us(["design.levels.animal.count=250"], 500)
    unbalanced, more = timing.fit_us(UNBALANCED, 500)
    huge, _ = timing.fit_us(LARGE, 1)
    return [
        ("general fit, 50 animals", f"{small:.0f} us ({evaluations:.0f} evaluations)", ""),
        ("general fit, 500 animals, times that", f"{large / small:.2f}", "at most 1.5"),
        ("general fit, unbalanced", f"{unbalanced / 1e3:.2f} ms ({more:.0f} evaluations)", "1 ms"),
        ("fit of 100,000 rows in 10,000 images", f"{huge / 1e3:.0f} ms", "under 50 ms"),
    ]


def crossed_rows() -> list[Row]:
    """Replicates of units that cross, simulated and fitted, with lme4's time for one of them."""
    rows = []
    for what, (formula, changes, n, wanted) in crossed.DESIGNS.items():
        ours, evaluations = crossed.replicate_ms(formula, changes, n)
        theirs = crossed.lme4_ms(formula, changes)
        peer = "" if theirs is None else f"; lme4 {theirs:,.0f} ms"
        measured = f"{ours:.2f} ms ({evaluations:.0f} evaluations{peer})"
        rows.append((what, measured, f"at most {wanted:g} ms"))
    if (found := crossed.insteval_seconds()) is not None:
        ours, with_df, theirs, gap = found
        measured = f"{ours:.1f} s, with Satterthwaite's df {with_df:.1f} s (lme4 {theirs:.1f} s,"
        measured += f" log-likelihood {gap:+.6f})"
        rows.append(("lme4's InstEval, 73,421 rows, 4,100 units, one fit", measured, "10 s"))
    return rows


def own_rows() -> list[Row]:
    """Replicates that have rows of their own, beside those of one unbalanced design."""
    kinds = UNBALANCED, [*UNBALANCED, *LOST], [*UNBALANCED, *REDRAWN]
    times = np.array([[timing.replicate_ms(one) for one in kinds] for _ in range(N_ROUNDS)])
    lost, redrawn = np.median(times[:, 1:] / times[:, :1], axis=0)
    one = np.median(times[:, 0])
    to_normals = 1e3 * one / timing.normals_us(len(timing.one_data_set(UNBALANCED)[0]))
    return [
        ("unbalanced design, both methods, per replicate", f"{one:.2f} ms", ""),
        ("... as a multiple of its normals", f"{to_normals:.0f}", "at most 12"),
        ("... where each loses 10% of its rows, times that", f"{lost:.2f}", "at most 1.5"),
        ("... where each draws its design anew, times that", f"{redrawn:.2f}", "at most 2"),
    ]


def interval_rows() -> list[Row]:
    """Replicates of one method whose intervals, or residuals, take long."""
    found = []
    for what, wanted, overrides in (
        ("profile intervals, per replicate", "2.5 ms", scenarios.PROFILE),
        ("... unbalanced", "16 ms", [*scenarios.PROFILE, *UNBALANCED]),
        ("200 bootstrap resamples, per replicate", "16 ms", scenarios.BOOTSTRAP),
        ("AR(1) residuals, per replicate", "1 ms", scenarios.CORRELATED),
    ):
        taken = timing.replicate_ms(overrides, 64, text=scenarios.GENERAL)
        found.append((what, f"{taken:.1f} ms", wanted))
    return found


def start_rows() -> list[Row]:
    """What is paid once."""
    warm = min(timing.run_study(10, 1)[0] for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        cold = timing.run_study(10, 1, cache=Path(folder))[0]
    of_help, of_click = timing.help_seconds(), timing.import_seconds("click")
    of_run = timing.import_seconds(*timing.NEEDED)
    return [
        ("mcsim --help", f"{1e3 * of_help:.0f} ms", "under 150 ms"),
        ("... over a process that imports click", f"{of_help / of_click:.2f}", "at most 1.5"),
        ("mcsim run, 10 replicates", f"{warm:.2f} s", "under 1.5 s"),
        ("... over one that imports what it needs", f"{warm / of_run:.2f}", "at most 1.2"),
        ("first compilation", f"{cold - warm:.0f} s", "6 s"),
    ]


def sweep_rows() -> list[Row]:
    """What a condition costs beyond its fits, as `sweep.py` defines it."""
    what = f"sweep of {sweep.MANY} conditions, per condition beyond its fits"
    truth, design = sweep.SWEPT
    found = {
        f"{what}: run": sweep.overhead_ms(truth),
        f"{what}: dry run": sweep.overhead_ms(truth, "--dry-run"),
        "... where every condition has a design of its own: run": sweep.overhead_ms(design),
    }
    wanted = ("at most 12 ms", "at most 12 ms", "")
    return [
        (name, f"{value:.1f} ms", limit)
        for (name, value), limit in zip(found.items(), wanted, strict=True)
    ]


def report_rows() -> list[Row]:
    """What a page takes."""
    return [
        (f"mcsim report, {n} conditions, processor", f"{sweep.report_seconds(n):.1f} s", wanted)
        for n, wanted in ((2, "at most 4 s"), (20, "at most 10 s"))
    ]


def compare_with_peers() -> list[Row]:
    """Seconds per fit of other programs on one data set, as multiples of mcsim's."""
    rows = []
    for name, overrides in (("balanced", []), ("unbalanced", UNBALANCED)):
        ours = timing.fit_us(overrides, 500)[0] / 1e6
        frame, loglik = timing.one_data_set(overrides)
        for peer, fit in peers.installed_peers().items():
            found = fit(frame)
            times = f"{1e3 * found.seconds:,.0f}", f"{found.seconds / ours:,.0f}"
            rows.append((f"{peer}, {name}", *times, _gap(found, loglik)))
    return rows


def _gap(found: "peers.PeerFit", loglik: float) -> str:
    if found.error:
        return found.error.replace("|", "/")
    return "not told" if found.loglik is None else f"{found.loglik - loglik:+.4f}"


def plot_growth() -> None:
    """Figures of how the time of a fit and of a study grows."""
    keys = {
        "animals": [(2 * n, [f"design.levels.animal.count={n}"]) for n in (4, 25, 250, 1000)],
        "images": [(n, [f"design.levels.image.count={n}"]) for n in (3, 10, 30, 100)],
        "points": [(n, [f"design.observations.count={n}"]) for n in (3, 10, 30, 100)],
    }
    figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
    for axis, (name, points) in zip(axes, keys.items(), strict=False):
        axis.loglog([n for n, _ in points], [timing.fit_us(o, 100)[0] for _, o in points], "o-")
        axis.set(xlabel=name, ylabel="microseconds per fit", ylim=(10, 1000))
    counts = (500, 2_000, 8_000)
    for j in (1, 2):
        seconds = [min(timing.run_study(n, j)[0] for _ in range(3)) for n in counts]
        axes[3].plot(counts, seconds, "o-", label=f"{j} worker{'s' * (j > 1)}")
    axes[3].set(xlabel="replicates", ylabel="seconds per study", ylim=(0, None))
    axes[3].legend()
    figure.savefig(HERE / "growth.png", dpi=150)


def report(rows: list[Row], peer_rows: list[Row]) -> str:
    """The results as Markdown."""
    head = f"{datetime.now(UTC).date()}, {platform.machine()}, Python {platform.python_version()}"
    return RESULTS.format(
        machine=", ".join([head, *filter(None, map(_named_version, PACKAGES))]),
        rows="\n".join(f"| {' | '.join(row)} |" for row in rows),
        single=1e3 * timing.single_fit_seconds(),
        peers="\n".join(f"| {' | '.join(row)} |" for row in peer_rows),
        counts="\n".join(f"| {' | '.join(row)} |" for row in counts.counts_rows()),
        others="\n".join(f"- {name}: {reason}" for name, reason in peers.CANNOT.items()),
    )


def _named_version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
