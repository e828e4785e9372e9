"""Sums of products for all lanes at once: what the time of an evaluation goes into.

The sums of the lanes are variables of their own, written out, since only then does the compiler
know that storing one changes no factor of another, and takes all lanes together.
"""

from mcsim.engine.arithmetic.compiled import step


@step
def take_products(out, x, y, n):
    """Take sum_m x_m y_m of the first n rows of x and y (n, LANES) out of `out` (LANES,)."""
    a = b = c = d = e = f = g = h = 0.0
    for m in range(n):
        a += x[m, 0] * y[m, 0]
        b += x[m, 1] * y[m, 1]
        c += x[m, 2] * y[m, 2]
        d += x[m, 3] * y[m, 3]
        e += x[m, 4] * y[m, 4]
        f += x[m, 5] * y[m, 5]
        g += x[m, 6] * y[m, 6]
        h += x[m, 7] * y[m, 7]
    _take(out, a, b, c, d, e, f, g, h)


@step
def take_chosen_products(out, x, rows, y, n):
    """As `take_products`, of the n rows of x that are listed."""
    a = b = c = d = e = f = g = h = 0.0
    for m in range(n):
        r = rows[m]
        a += x[r, 0] * y[m, 0]
        b += x[r, 1] * y[m, 1]
        c += x[r, 2] * y[m, 2]
        d += x[r, 3] * y[m, 3]
        e += x[r, 4] * y[m, 4]
        f += x[r, 5] * y[m, 5]
        g += x[r, 6] * y[m, 6]
        h += x[r, 7] * y[m, 7]
    _take(out, a, b, c, d, e, f, g, h)


@step
def _take(out, a, b, c, d, e, f, g, h):
    out[0] -= a
    out[1] -= b
    out[2] -= c
    out[3] -= d
    out[4] -= e
    out[5] -= f
    out[6] -= g
    out[7] -= h


@step
def set_products(out, x, y, n):
    """Put sum_m x_m y_m into `out`."""
    out[:] = 0.0
    take_products(out, x, y, n)
    for lane in range(len(out)):
        out[lane] = -out[lane]
