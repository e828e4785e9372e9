"""The quasi-Newton update of Broyden, Fletcher, Goldfarb and Shanno, compiled."""

import math

import numpy as np

from mcsim.engine.arithmetic.arrays import Floats
from mcsim.engine.arithmetic.compiled import lean_kernel, step

U = np.uint64
CURVATURE = 1e-10  # cosine of step and change of gradient, below which nothing is learned


def updated_inverse(inverse: Floats, change: Floats, bend: Floats) -> Floats:
    """Inverse Hessians (n, m, m) after steps `change` (n, m) that changed the gradients by `bend`.

    The same as before where the function curves downwards.
    """
    updated = inverse.copy()
    _update(updated, change, bend, np.empty(inverse.shape[1]))
    return updated


@lean_kernel
def _update(inverse, change, bend, Hy):
    for r in range(U(len(inverse))):
        _update_one(inverse[r], change[r], bend[r], Hy)


@step
def _update_one(H, s, y, Hy):
    m = U(len(s))
    ss, sy, yy, yHy = 0.0, 0.0, 0.0, 0.0
    for i in range(m):
        total = 0.0
        for j in range(m):
            total += H[i, j] * y[j]
        Hy[i] = total
        ss += s[i] * s[i]
        sy += s[i] * y[i]
        yy += y[i] * y[i]
        yHy += y[i] * total
    if not sy > CURVATURE * math.sqrt(ss * yy):
        return
    factor = (1.0 + yHy / sy) / sy
    for i in range(m):
        for j in range(m):
            H[i, j] += factor * s[i] * s[j] - (Hy[i] * s[j] + s[i] * Hy[j]) / sy
