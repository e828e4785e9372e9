"""First-order conditions in Psi: D Psi = 0 and D >= 0, in the metric of sum Z'PZ."""

import numpy as np

from mcsim.engine.compiled import kernel
from mcsim.engine.matrices import (
    forward_substitution,
    semidefinite_factor,
    symmetric_eigen,
    times_transpose,
)

CERTIFICATE_TOLERANCE = 1e-6  # relative violation of the first-order conditions


@kernel
def violation_of(tree, ws, kappa):  # type: ignore[no-untyped-def]
    """Violation of D Psi = 0 and D >= 0 in the metric of sum Z'PZ, per block the worst.

    Returns it, whether a negative eigenvalue is the cause, the block, and the direction.
    """
    violation, negative, worst = 0.0, False, 0
    direction = np.zeros(ws.Lam.shape[1])
    lowest = -CERTIFICATE_TOLERANCE
    for b in range(len(tree.blocks)):
        level, first, size = tree.blocks[b]
        inside = slice(first, first + size)
        N = ws.D1[level, inside, inside].copy()
        D = N - kappa * ws.D2[level, inside, inside]
        ridge = 1e-12 * tree.nu
        for i in range(size):
            N[i, i] += ridge
        C = semidefinite_factor(0.5 * (N + N.T), np.zeros(size, dtype=np.bool_))
        scaled = np.zeros((size, size))  # C^-1 D C^-T
        for j in range(size):
            scaled[:, j] = forward_substitution(C, D[:, j])
        for i in range(size):
            scaled[i] = forward_substitution(C, scaled[i].copy())
        scaled = 0.5 * (scaled + scaled.T)
        values, vectors = symmetric_eigen(scaled)
        Psi = times_transpose(np.ascontiguousarray(C.T) @ ws.Lam[level, inside, inside].copy())
        size_of_Psi = np.sqrt(np.sum(Psi * Psi))
        if size_of_Psi > 0.0:
            product = scaled @ Psi
            violation = max(violation, np.sqrt(np.sum(product * product)) / size_of_Psi)
        smallest = np.argmin(values)
        violation = max(violation, -values[smallest])
        if values[smallest] < lowest:
            lowest, negative, worst = values[smallest], True, b
            direction[:] = 0.0
            vector = vectors[:, smallest].copy()
            for i in range(size - 1, -1, -1):  # C^-T vector
                for m in range(i + 1, size):
                    vector[i] -= C[m, i] * direction[m]
                direction[i] = vector[i] / C[i, i]
    return violation, negative, worst, direction
