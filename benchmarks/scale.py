"""Large studies: a million replicates, and a sweep of two thousand conditions."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.scenarios import SEED
from benchmarks.sweep import SWEPT
from benchmarks.timing import MEASURE, replicate_ms

MCSIM = (sys.executable, "-m", "mcsim")
CONDITIONS, OF_A_CONDITION = 2_000, 200


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds of a command of mcsim, and the largest memory of its processes in MB."""
    command = [sys.executable, "-c", MEASURE, *MCSIM, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, kilobytes = map(float, done.stdout.split()[-2:])
    return seconds, kilobytes / 1024


def million_rows(n_replicates: int) -> list[tuple[str, str, str]]:
    """The seed scenario, both methods, two workers: run over its fits, and the summary."""
    fits = replicate_ms([], 2_000) / 1e3 * n_replicates / 2  # seconds, of two workers
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "seed.toml", f"{folder}/out"
        path.write_text(SEED)
        size = ("-n", str(n_replicates), "-j", "2", "--quiet")
        run, _ = measured("run", str(path), "-o", out, *size)
        # of the regular fits: the run has stored the summary of all
        seconds, memory = measured("summarize", out, "--only-regular", "--format", "csv")
    times = f"{run:.0f} s, {run / fits:.2f} times its fits"
    return [
        (f"{n_replicates:,} replicates, two workers", times, "at most 1.2 times"),
        ("... summarised", f"{seconds:.1f} s, {memory:.0f} MB", "10 s, 400 MB"),
    ]


def wide_rows(n_conditions: int = CONDITIONS) -> list[tuple[str, str, str]]:
    """A sweep of many conditions: what each costs beyond its fits, before and after the run."""
    key = "truth.sigma"
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out"

        def scenario(n: int) -> str:
            path = Path(folder) / f"{n}.toml"
            values = [SWEPT[key](number) for number in range(n)]
            path.write_text(f'{SEED}[sweep]\n"{key}" = {values}\n')
            return str(path)

        def run(n: int, n_replicates: int, to: str) -> float:
            size = ("-n", str(n_replicates), "-j", "1", "--quiet", "-o", to, "--overwrite")
            return measured("run", scenario(n), *size)[0]

        one = [run(1, n * OF_A_CONDITION, f"{folder}/one") for n in (50, 100)]
        fits = (one[1] - one[0]) / 50  # seconds of a condition's
        half, whole = (run(n, OF_A_CONDITION, out) for n in (n_conditions // 2, n_conditions))
        dry, _ = measured("run", scenario(n_conditions), "--dry-run")
        status, _ = measured("status", out)
        n_files = sum(path.is_file() for path in Path(out).rglob("*"))
    overhead = 1e3 * ((whole - half) / (n_conditions - n_conditions // 2) - fits)
    what = f"{n_conditions:,} conditions of {OF_A_CONDITION} replicates"
    return [
        (f"{what}, per condition beyond its fits", f"{overhead:.1f} ms", "at most 5 ms"),
        ("... dry run", f"{dry:.1f} s", "3 s"),
        ("... status", f"{status:.1f} s", "1 s"),
        ("... files", f"{n_files:,}", ""),
    ]
