"""The quasi-Newton update, against its definition in whole matrices."""

import numpy as np

from mcsim.engine.arithmetic.bfgs import updated_inverse


def test_the_inverse_is_that_of_the_definition_and_meets_the_secant_equation():
    random = np.random.default_rng(20_240_319)
    root = random.standard_normal((50, 4, 4))
    inverse = root @ root.transpose(0, 2, 1) + np.eye(4)
    change, bend = random.standard_normal((2, 50, 4))
    bend *= np.sign(np.sum(change * bend, axis=1))[:, None]  # all curve upwards
    found = updated_inverse(inverse, change, bend)
    for H, s, y, new in zip(inverse, change, bend, found, strict=True):
        # Nocedal & Wright (2006), equation 6.17
        V = np.eye(4) - np.outer(y, s) / (y @ s)
        expected = V.T @ H @ V + np.outer(s, s) / (y @ s)
        np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        np.testing.assert_allclose(new @ y, s, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_nothing_is_learned_where_the_function_curves_downwards_or_is_not_a_number():
    inverse = np.tile(np.eye(2), (3, 1, 1))
    change = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 1.0]])
    bend = np.array([[-1.0, 3.0], [2.0, -1.0], [np.nan, 1.0]])
    assert np.array_equal(updated_inverse(inverse, change, bend), inverse)
