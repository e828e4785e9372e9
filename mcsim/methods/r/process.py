"""R run on blocks of responses: what it needs, its files, and what it says.

Knows arrays and text only: the model is a call of R, made elsewhere.
"""

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcsim.errors import DataError

Floats = NDArray[np.float64]

SCRIPT = Path(__file__).with_name("fit_block.R")
VERSIONS = (
    'cat("R", as.character(getRversion()), "\\n"); for (p in commandArgs(trailingOnly = TRUE)) '
    'if (requireNamespace(p, quietly = TRUE)) cat(p, as.character(packageVersion(p)), "\\n")'
)
ENDED = "R ended (exit code {code}): {message}"


@dataclass(frozen=True)
class RModel:
    """What R is told of a model.

    packages : that the call needs; levels : names of R's grouping factors, outermost first
    sizes : random effects per level; X : (n_rows, p); contrasts : (rows, p) each
    """

    packages: tuple[str, ...]
    call: str
    fixed: str
    response: str
    frame: pd.DataFrame
    levels: tuple[str, ...]
    sizes: tuple[int, ...]
    X: Floats
    contrasts: tuple[Floats, ...]
    df: tuple[str, ...]

    @property
    def n_numbers(self) -> int:
        """How many numbers a fit has."""
        n_covariances = sum(size * size for size in self.sizes)
        return 2 + 4 * len(self.df) * len(self.contrasts) + n_covariances


@dataclass(frozen=True)
class RFit:
    """Numbers of one fit, as fit_block.R writes them, or why there are none; R's doubts."""

    numbers: Floats | None
    message: str | None


@lru_cache(maxsize=8)
def r_versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    """Versions of R and its packages.

    Raises
    ------
    DataError
        R or a package is not there.
    """
    program = shutil.which("Rscript")
    if program is None:
        raise DataError(
            f"there is no Rscript on the path, which runs {packages[0]}. Install R: on Debian or"
            " Ubuntu `apt-get install r-base-core`, elsewhere from https://cran.r-project.org"
        )
    done = _said_by([program, "-e", VERSIONS, *packages])
    found = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    missing = [name for name in packages if name not in found]
    if missing:
        wanted = ", ".join(f'"{name}"' for name in missing)
        raise DataError(
            f"R has no package {missing[0]!r}. Install it: Rscript -e"
            f" 'install.packages(c({wanted}), repos = \"https://cloud.r-project.org\")'"
            + (f"; R said: {_last_lines(done.stderr)}" if done.returncode else "")
        )
    return found


def _said_by(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command of R at its end; signs that are no text do not stop us."""
    return subprocess.run(  # noqa: S603 - the program that the path names, and files made here
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )


def run_r(model: RModel, responses: Floats) -> list[RFit]:
    """Fit every response (n_replicates, n_rows) in R, in one process unless that ends early."""
    fits: list[RFit] = []
    while len(fits) < len(responses):
        with tempfile.TemporaryDirectory(prefix="mcsim-r-", ignore_cleanup_errors=True) as folder:
            fits += _run(model, responses[len(fits) :], Path(folder))
    return fits


def _run(model: RModel, responses: Floats, folder: Path) -> list[RFit]:
    """Fits of the first responses, at least one; where R ended early, the last says so."""
    (folder / "setup.R").write_text(_setup(model, len(responses)), encoding="utf-8")
    (folder / "numbers.bin").write_bytes(_numbers(model, responses))
    command = [shutil.which("Rscript") or "Rscript", str(SCRIPT), str(folder), str(os.getpid())]
    done = _said_by(command)
    failed = RFit(None, ENDED.format(code=done.returncode, message=_last_lines(done.stderr)))
    results = folder / "results.txt"
    if not results.exists():  # it ended before the first fit, and would again
        return [failed] * len(responses)
    *lines, _ = results.read_text(encoding="utf-8", errors="replace").split("\n")
    fits = [_read(line, model) for line in lines]
    return fits if len(fits) == len(responses) else [*fits, failed]


def _setup(model: RModel, n_replicates: int) -> str:
    """Assignments in R."""
    values = {
        "packages": _strings(model.packages),
        "call": _string(model.call),
        "fixed": f"~ {model.fixed}",
        "response": _string(model.response),
        "levels": _strings(model.levels),
        "df": _strings(model.df),
        "n_rows": len(model.X),
        "n_fixed": model.X.shape[1],
        "n_replicates": n_replicates,
        "contrast_sizes": f"c({', '.join(str(len(L)) for L in model.contrasts)})",
        "labels": f"list({', '.join(map(_labels, map(model.frame.__getitem__, model.frame)))})",
    }
    return "".join(f"{name} <- {value}\n" for name, value in values.items())


def _labels(column: "pd.Series[float]") -> str:
    """Levels of a factor; NULL for numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return f"`{column.name}` = {_strings([str(one) for one in column.cat.categories])}"
    return f"`{column.name}` = NULL"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _strings(texts: Sequence[str]) -> str:
    return f"c({', '.join(map(_string, texts))})"


def _numbers(model: RModel, responses: Floats) -> bytes:
    """Matrices by columns: data, X, contrasts, responses."""
    columns = [
        column.cat.codes if isinstance(column.dtype, pd.CategoricalDtype) else column
        for column in map(model.frame.__getitem__, model.frame)
    ]
    data = np.stack([np.asarray(column, dtype=np.float64) for column in columns])
    contrasts = np.concatenate(model.contrasts).T
    return b"".join(
        np.ascontiguousarray(part, dtype=np.float64).tobytes()
        for part in (data, model.X.T, contrasts, responses)
    )


def _read(line: str, model: RModel) -> RFit:
    if line.startswith("E"):
        return RFit(None, line[1:])
    *numbers, doubts = line.split("\t")
    if len(numbers) != model.n_numbers:
        return RFit(None, "the random effects of R are not those of mcsim")
    values = np.array([math.nan if one == "NA" else float(one) for one in numbers])
    return RFit(values, doubts.removeprefix("W") or None)


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-2:]) if lines else "no message"
