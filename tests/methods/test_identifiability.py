"""What a design leaves open: closed cases, a dense computation, and studies that go on."""

import re

import numpy as np
import pandas as pd
import pytest

from mcsim.engine.compile import compile_design
from mcsim.errors import DataError
from mcsim.methods.one_file import fit_frame
from mcsim.scenario.families import family_model
from tests.oracles.designs import draw_design


def table(n_dogs, n_sides, n_rows, seed=1):
    """Dogs with sides with rows: x differs everywhere, f in the rows, diet between dogs."""
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            (f"d{dog}", f"s{side}", x, "uvw"[row % 3], "AB"[dog % 2], row, generator.normal())
            for dog in range(n_dogs)
            for side in range(n_sides)
            for row, x in enumerate(generator.uniform(size=n_rows))
        ],
        columns=["dog", "side", "x", "f", "diet", "when", "y"],
    )


CANNOT = [
    ((20, 1, 3), "y ~ x + (1 | dog/side)", "dog.sd(Intercept) and side.sd(Intercept) apart"),
    ((10, 4, 1), "y ~ x + (1 | dog/side)", "side.sd(Intercept) and sigma apart"),
    (
        (9, 1, 2),
        "y ~ 1 + (when | dog)",
        "dog.sd(Intercept), dog.sd(when), sigma and dog.cor(Intercept,when)",
    ),
    ((10, 1, 6), "y ~ f + (1 | dog) + (0 + f | dog)", "dog.sd(Intercept), dog.sd(f[u])"),
    ((10, 1, 3), "y ~ f + (f | dog)", "dog.sd(Intercept), dog.sd(f[T.v]), dog.sd(f[T.w]), sigma"),
    ((10, 3, 3), "y ~ diet + (diet | dog)", "dog.sd(diet[T.B]) and dog.cor(Intercept,diet[T.B])"),
]


@pytest.mark.parametrize(("sizes", "formula", "message"), CANNOT, ids=[one[1] for one in CANNOT])
def test_sds_that_cannot_be_told_apart_are_refused_by_name_or_left_out(sizes, formula, message):
    data = table(*sizes)
    with pytest.raises(DataError) as refused:
        fit_frame(data, formula)
    assert message in str(refused.value)
    assert "identifiable = false" in str(refused.value)
    found = fit_frame(data, formula, df="satterthwaite", identifiable=False)
    rows = {one.parameter: one for one in found.parameters}
    lost = {name for name, one in rows.items() if one.estimate is None}
    assert all(
        name in lost for name in message.split(" apart")[0].replace(" and ", ", ").split(", ")
    )
    assert found.status in ("ok", "boundary")
    assert rows["Intercept"].std_error > 0


@pytest.mark.parametrize(
    ("random", "name", "before"),
    [
        ("(const | dog)", "const", "Intercept | dog"),
        ("(x + lin | dog)", "lin", "Intercept | dog, x | dog"),
    ],
)
def test_a_random_effect_that_others_determine_is_called_one(random, name, before):
    data = table(10, 3, 4).assign(const=2.0, lin=lambda frame: 1 - frame["x"])
    message = f"the random effect '{name} | dog' is a combination of the columns before it"
    with pytest.raises(DataError, match=re.escape(f"{message} ({before}), or too nearly one")):
        fit_frame(data, f"y ~ x + {random}")


def test_what_fixed_effects_take_up_is_refused_in_any_case():
    # the standard error of the diet would be any number: lme4 gives one without a word
    for is_allowed in (True, False):
        with pytest.raises(DataError, match=r"nothing that could tell dog.sd\(Intercept\)"):
            fit_frame(table(2, 3, 3), "y ~ diet + (1 | dog)", identifiable=is_allowed)


def test_a_correlation_of_effects_that_never_meet_is_left_out_without_a_refusal():
    data = table(10, 3, 4)
    rows = {one.parameter: one for one in fit_frame(data, "y ~ diet + (0 + diet | dog)").parameters}
    a, b = ((data["diet"] == level).astype(float) for level in "AB")  # || keeps a factor together
    apart = fit_frame(data.assign(a=a, b=b), "y ~ diet + (0 + a + b || dog)").parameters
    assert rows["dog.cor(diet[A],diet[B])"].estimate is None
    for one in apart:  # the same model
        name = one.parameter.replace("(a)", "(diet[A])").replace("(b)", "(diet[B])")
        assert rows[name].estimate == pytest.approx(one.estimate, rel=1e-5, abs=1e-6)
        if one.std_error is not None:
            assert rows[name].std_error == pytest.approx(one.std_error, rel=1e-3)


def dense_rank(drawn):
    """Rank of the matrices P V_r P, each scaled by its V_r, and how clear it is."""
    n, X = len(drawn.X), drawn.X
    V, inside, parts = np.eye(n), np.ones((n, n), dtype=bool), []
    for level in drawn.levels:
        inside = inside & (level.unit_of_row[:, None] == level.unit_of_row[None, :])
        first = 0
        for structure, size in level.structures:
            Z = level.Z[:, first : first + size] / np.linalg.norm(level.Z[:, first : first + size])
            first += size
            V = V + np.where(inside, Z @ Z.T, 0.0) * n / 4
            parts += [np.where(inside, one, 0.0) for one in matrices(structure, Z)]
    parts.append(np.eye(n))
    W = np.linalg.inv(V)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    root = np.linalg.cholesky(P + 1e-14 * np.trace(P) * np.eye(n))
    seen = [root.T @ one @ root for one in parts]
    least = [max(1e-9 * np.linalg.norm(one), 1e-300) for one in parts]
    scaled = [
        (one / max(np.linalg.norm(one), small)).ravel()
        for one, small in zip(seen, least, strict=True)
    ]
    values = np.linalg.svd(np.array(scaled), compute_uv=False)
    return int(np.sum(values > 1e-4)), not np.any((values > 1e-7) & (values < 1e-2)), len(parts)


def matrices(structure, Z):
    if structure == "identity":
        return [Z @ Z.T]
    if structure == "compound" and Z.shape[1] > 1:
        along = Z.sum(axis=1)
        return [Z @ Z.T, np.outer(along, along)]
    pairs = [(i, j) for i in range(Z.shape[1]) for j in range(i + 1)]
    return [np.outer(Z[:, i], Z[:, j]) + np.outer(Z[:, j], Z[:, i]) for i, j in pairs]


def test_what_is_open_is_what_a_dense_computation_says():
    n_clear, n_open = 0, 0
    for seed in range(150):
        drawn = draw_design(seed)
        design = compile_design(drawn.X, drawn.levels, names=drawn.names)
        rank, is_clear, n_parameters = dense_rank(drawn)
        if not is_clear:
            continue
        n_clear += 1
        (flat,) = design.starts[0].flat
        n_open += len(flat) > 0
        assert len(flat) == n_parameters - rank, seed
    assert n_clear > 100
    assert n_open > 20


def test_counts_have_no_residuals_that_effects_of_rows_could_be_taken_for():
    # rows of a Poisson response may have effects of their own, binary ones may not
    frame = pd.DataFrame({"animal": np.repeat(np.arange(8), 5), "row": np.arange(40)})
    frame["y"] = np.random.default_rng(2).integers(0, 2, 40).astype(float)
    formula = "y ~ 1 + (1 | animal/row)"
    counts = frame.assign(y=3.0 * frame["y"])
    assert fit_frame(counts, formula, model=family_model("poisson")).message is None
    with pytest.raises(DataError, match="every 'row' has one binary row, which cannot tell"):
        fit_frame(frame, formula, model=family_model("binomial"))
    same = frame.assign(dog=frame["animal"])
    with pytest.raises(DataError, match=r"animal.sd\(Intercept\) and dog.sd\(Intercept\) apart"):
        fit_frame(same, "y ~ 1 + (1 | animal/dog)", model=family_model("binomial"))
