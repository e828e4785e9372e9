"""Where the search begins: MINQUE, the exact optimum of balanced designs inside the cone.

With P taken at Psi0 = 0.25 I, the estimates solve, in Sigma and sigma2,

    sum_s tr(P V_r P V_s) psi_s = y'P V_r P y

(Rao 1971). The left side depends on the design alone. P V P = P gives the row of sigma2, whose V
is the identity, from the others. What lies outside the cone is set to zero.
"""

import numpy as np

from mcsim.engine.blocks import block_of, entry, put_largest_pivots_first, set_block
from mcsim.engine.compiled import kernel
from mcsim.engine.matrices import symmetric_eigen

START = 0.5  # relative SD of every random effect, in columns of unit scale


@kernel
def minque(tree, order, D, r2, trial):  # type: ignore[no-untyped-def]
    """Put the start into `trial`, and the order of its factors into `order`.

    D : (n_levels, q, q) derivative of -2 logLik at Psi0
    """
    blocks = tree.blocks
    n = len(trial)
    right = np.zeros(n + 1)
    right[n] = r2
    residual = (tree.start_N - D) * (r2 / tree.nu)  # sum (Z'Py)(Z'Py)'
    for b in range(len(blocks.size)):
        part = block_of(blocks, b, residual)
        for j in range(blocks.size[b]):
            right[n] -= START * START * part[j, j]
            for i in range(j, blocks.size[b]):
                right[entry(blocks, b, i, j)] = part[i, j] if i == j else 2.0 * part[i, j]
    psi = tree.start_inverse @ right
    for b in range(len(blocks.size)):
        size = blocks.size[b]
        Psi = np.zeros((size, size))
        for j in range(size):
            for i in range(j, size):
                Psi[i, j] = psi[entry(blocks, b, i, j)] / psi[n] if psi[n] > 0.0 else 0.0
                Psi[j, i] = Psi[i, j]
        values, vectors = symmetric_eigen(Psi)
        held = np.zeros(size, dtype=np.bool_)
        n_negative = 0
        for i in range(size):
            if not values[i] > 0.0:
                values[i] = 0.0
                n_negative += 1
        if n_negative > 0:
            for i in range(size):
                for j in range(size):
                    Psi[i, j] = 0.0
                    for m in range(size):
                        Psi[i, j] += values[m] * vectors[i, m] * vectors[j, m]
        put_largest_pivots_first(blocks, order, b, Psi)
        for i in range(n_negative):
            held[size - 1 - i] = True
        set_block(blocks, order, trial, b, Psi, held)
