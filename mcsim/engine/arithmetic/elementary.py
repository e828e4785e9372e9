"""Exponential and logarithm without a branch, so that loops over rows become vector instructions.

Exact to 2 units in the last place; results do not depend on the instructions that a machine has.
"""

import math

import numpy as np

from mcsim.engine.arithmetic.compiled import part

LOG2_E = 1.0 / math.log(2.0)
LN2_HIGH = 6.93147180369123816490e-01  # its product with a whole number is exact
LN2_LOW = 1.90821492927058770002e-10
WHOLE = 1.5 * 2.0**52  # a number that is added to it is rounded, and stands in its last bits
WHOLE_BITS = np.int64(np.float64(WHOLE).view(np.int64))
ROOT_HALF_BITS = np.int64(np.float64(math.sqrt(0.5)).view(np.int64))
MANTISSA = 52  # bits
BIAS = 1023
LEAST, MOST = -708.0, 709.0  # below and above, 0 and infinity
E2, E3, E4, E5, E6, E7, E8, E9, E10, E11, E12, E13 = (1.0 / math.factorial(n) for n in range(2, 14))
A1, A2, A3, A4, A5, A6, A7, A8, A9, A10 = (1.0 / (2 * n + 1) for n in range(1, 11))


@part
def exp(x):
    """e^x: 2^n e^r, |r| < log(2) / 2, by the series of e^r."""
    shifted = x * LOG2_E + WHOLE
    n = shifted - WHOLE
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = E6 + r * (E7 + r * (E8 + r * (E9 + r * (E10 + r * (E11 + r * (E12 + r * E13))))))
    p = 1.0 + (r + r * r * (E2 + r * (E3 + r * (E4 + r * (E5 + r * p)))))
    power = np.int64((np.float64(shifted).view(np.int64) + BIAS) << MANTISSA).view(np.float64)
    p = 0.0 if x < LEAST else p * power
    return math.inf if x > MOST else p


@part
def log1p(x):
    """log(1 + x) of x >= 0: n log(2) + log(m), m within a factor root 2 of 1, by atanh's series."""
    u = 1.0 + x
    lost = x - (u - 1.0)  # by rounding
    bits = np.float64(u).view(np.int64)
    exponent = (bits - ROOT_HALF_BITS) >> MANTISSA
    t = np.int64(bits - (exponent << MANTISSA)).view(np.float64) - 1.0
    n = np.int64(exponent + WHOLE_BITS).view(np.float64) - WHOLE
    z = t / (2.0 + t)
    s = z * z
    p = A5 + s * (A6 + s * (A7 + s * (A8 + s * (A9 + s * A10))))
    p = s * (A1 + s * (A2 + s * (A3 + s * (A4 + s * p))))
    total = n * LN2_HIGH + (2.0 * (z + z * p) + (n * LN2_LOW + lost / u))
    return total if u < math.inf else u
