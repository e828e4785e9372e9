"""Large studies: a million replicates, two thousand conditions, fifty workers of a cluster."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scenarios import SEED
from benchmarks.sweep import SWEPT
from benchmarks.timing import MEASURE, replicate_ms
from mcsim.study.workers.dask import Cluster, DaskExecutor

MCSIM = (sys.executable, "-m", "mcsim")
CLUSTER = """
import asyncio, json, os, sys
from distributed import Scheduler, Worker

async def serve(path, n):
    async with Scheduler(port=0, dashboard=False, host="127.0.0.1") as scheduler:
        for _ in range(int(n)):
            await Worker(scheduler.address, nthreads=1, dashboard=False)
        with open(path + ".new", "w") as file:
            json.dump(scheduler.identity(), file)
        os.rename(path + ".new", path)
        await scheduler.finished()

asyncio.run(serve(*sys.argv[1:]))
"""
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
        half = run(n_conditions // 2, OF_A_CONDITION, f"{folder}/half")
        whole = run(n_conditions, OF_A_CONDITION, out)
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


def tiny_chunk(_number: int) -> bytes:
    """What a worker returns of a chunk that took no time: 60 kB."""
    return bytes(60_000)


def dask_rows(n_chunks: int = 2_000, n_workers: int = 50) -> list[tuple[str, str, str]]:
    """How many chunks a minute go through a scheduler and the client, workers of no work."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        command = [sys.executable, "-c", CLUSTER, str(file), str(n_workers)]
        cluster = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # it says much
        try:
            while not file.exists():
                time.sleep(0.1)
            executor = DaskExecutor(Cluster(scheduler_file=file), lambda _: None)
            started = time.perf_counter()
            n_done = sum(1 for _ in executor.map_unordered(tiny_chunk, range(n_chunks)))
            minutes = (time.perf_counter() - started) / 60
            executor.close()
        finally:
            cluster.kill()
            cluster.wait()
    what = f"chunks a minute of {n_workers} Dask workers, scheduler and client on one machine"
    return [(what, f"{n_done / minutes:,.0f}", "2,000")]
