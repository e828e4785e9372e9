"""What compiled code does not check by itself."""

import os
import subprocess
import sys

WRITES_BEYOND = """
import numpy as np
from mcsim.engine.arithmetic.compiled import lean_kernel, step

@step
def put(values, i):
    values[i] = 1.0

@lean_kernel
def fill(values, n):
    for i in range(n):
        put(values, i)

fill(np.zeros(3), np.uint64(4))
"""


def test_bounds_are_checked_where_that_is_asked_for(tmp_path):
    script = tmp_path / "beyond.py"
    script.write_text(WRITES_BEYOND)
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "IndexError: index is out of bounds" in done.stderr
