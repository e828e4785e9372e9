"""First-order conditions in Psi: D Psi = 0 and D >= 0, in the metric of sum Z'PZ."""

import numpy as np

from mcsim.engine.blocks import block_of, covariance
from mcsim.engine.compiled import kernel
from mcsim.engine.matrices import (
    forward_substitution,
    semidefinite_factor,
    symmetric_eigen,
    times_transpose,
)

CERTIFICATE_TOLERANCE = 1e-6  # relative violation of the first-order conditions


@kernel
def violation_of(tree, order, theta, D, N, direction):  # type: ignore[no-untyped-def]
    """Violation of D Psi = 0 and D >= 0 in the metric of N = sum Z'PZ, per block the worst.

    Returns it, the most negative eigenvalue that is more than rounding (else 0), and its block;
    puts the eigenvector, with v'Nv = 1, into `direction`.
    """
    violation, worst = 0.0, 0
    lowest = -CERTIFICATE_TOLERANCE
    for b in range(len(tree.blocks.size)):
        size = tree.blocks.size[b]
        D_block, N_block = block_of(tree.blocks, b, D), block_of(tree.blocks, b, N)
        for i in range(size):
            N_block[i, i] += 1e-12 * tree.nu
        C = semidefinite_factor(0.5 * (N_block + N_block.T), np.zeros(size, dtype=np.bool_))
        scaled = np.zeros((size, size))  # C^-1 D C^-T
        for j in range(size):
            scaled[:, j] = forward_substitution(C, D_block[:, j])
        for i in range(size):
            scaled[i] = forward_substitution(C, scaled[i].copy())
        scaled = 0.5 * (scaled + scaled.T)
        values, vectors = symmetric_eigen(scaled)
        Psi = covariance(tree.blocks, order, theta, b)
        root = semidefinite_factor(Psi, np.zeros(size, dtype=np.bool_))
        Psi = times_transpose(np.ascontiguousarray(C.T) @ root)
        size_of_Psi = np.sqrt(np.sum(Psi * Psi))
        if size_of_Psi > 0.0:
            product = scaled @ Psi
            violation = max(violation, np.sqrt(np.sum(product * product)) / size_of_Psi)
        smallest = np.argmin(values)
        violation = max(violation, -values[smallest])
        if values[smallest] < lowest:
            lowest, worst = values[smallest], b
            direction[:] = 0.0
            for i in range(size - 1, -1, -1):  # C^-T times the eigenvector
                direction[i] = vectors[i, smallest]
                for m in range(i + 1, size):
                    direction[i] -= C[m, i] * direction[m]
                direction[i] /= C[i, i]
    return violation, lowest if lowest < -CERTIFICATE_TOLERANCE else 0.0, worst
