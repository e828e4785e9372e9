"""Replicates with rows of their own are analysed together as they would be one by one."""

import re

import numpy as np
import pytest

from mcsim.scenario.conditions import conditions
from mcsim.scenario.load import load_scenario
from mcsim.study import own_rows
from mcsim.study.analyse import analyse_replicates
from mcsim.study.own_plan import Together, fitted_together
from mcsim.study.prepared import prepare_condition

N_DESIGNS, N_REPLICATES = 50, 3

SCENARIO = """
title = "Random"
replicates = 3
seed = {seed}
[design]
factors = {factors}
{levels}
[design.observations]
count = {rows}
[design.covariates]
x = {x}
[truth]
sigma = 0.5
[truth.fixed]
Intercept = 1.0
"diet[T.fed]" = 0.5
x = -1.0
{random}
"""
METHODS = (  # formula, estimator, df; {} stands for the levels
    ("y ~ diet * x + (x | {})", "reml", ("containment", "satterthwaite", "kenward-roger", "z")),
    ("y ~ diet * x + (x || {})", "ml", ("satterthwaite",)),
    ("y ~ diet + x + (1 | {})", "reml", ("containment", "kenward-roger")),
    ("y ~ x + (1 | {})", "reml", ("containment",)),  # lacks an effect of the truth
    ("y ~ diet * x", "reml", ("containment",)),
    ("y ~ diet * x + (1 | animal)", "ols-cluster", ()),
    ("y ~ diet * x + (1 | animal)", "gee", ()),
    ("y ~ diet + x + (1 | animal)", "two-stage", ()),
    ("y ~ diet + (1 | {})", "image-means", ()),
    ("y ~ diet * x", "ols", ()),
)
IMAGE_MEANS = 8


def random_scenario(seed):
    """Text of a scenario: what is lost or drawn anew, of whom, and by what it is analysed."""
    rng = np.random.default_rng(seed)
    names = ("animal", "image", "field")[: rng.integers(1, 4)]
    drawn = rng.random() < 0.5
    counts = ["{ uniform = [2, 4] }" if drawn and rng.random() < 0.7 else "3" for _ in names]
    levels = "".join(
        f'[[design.levels]]\nname = "{name}"\ncount = {count}\n'
        for name, count in zip(names, counts, strict=True)
    )
    if drawn:
        levels = "redraw = true\n" + levels
    covariate = ("grid = [0.0, 1.0]", "uniform = [0.0, 1.0]", "normal = [0.0, 1.0]")
    factors = 'diet = ["fasted", "fed"]'
    if len(names) > 1 and rng.random() < 0.4:
        factors += ', zone = { levels = ["a", "b"], of = "image" }'
    truths = [f"[truth.random.{name}]\nsd = {{ Intercept = 0.4 }}" for name in names]
    if rng.random() < 0.5:
        truths[-1] = truths[-1].replace("0.4", "0.4, x = 0.3")
    text = SCENARIO.format(
        seed=seed,
        factors=f"{{ {factors} }}",
        levels=levels,
        rows="{ uniform = [2, 5] }" if drawn else "4",
        x=f"{{ {covariate[rng.integers(0 if not drawn else 1, 3)]} }}",
        random="\n".join(truths),
    )
    losses = (
        "missing = { observations = 0.2 }",
        f"missing = {{ units = {{ {names[-1]} = 0.3 }} }}",
        "missing = { units = { animal = 0.3 }, observations = 0.1 }",
        'missing = { dropout = { level = "animal", along = "x", after = 0.5, probability = 0.5 } }',
    )
    if not drawn or rng.random() < 0.3:
        text = text.replace("sigma = 0.5", f"sigma = 0.5\n{losses[rng.integers(len(losses))]}")
    chosen = rng.choice(len(METHODS), 3, replace=False).tolist()
    if rng.random() < 0.3 and IMAGE_MEANS not in chosen:
        test = ("type 2", "type 3")[rng.integers(2)]
        text += f'[[estimands]]\nname = "of diet"\nterm = "diet"\ntest = "{test}"\n'
    for number in chosen:
        formula, estimator, df = METHODS[number]
        if "zone" in factors and rng.random() < 0.5:
            formula = formula.replace("diet", "diet + zone", 1)
        asked = f"df = {list(df)}\n" if df else ""
        text += f'[[methods]]\nname = "m{number}"\nestimator = "{estimator}"\n{asked}'
        text += f'formula = "{formula.format("/".join(names))}"\n'
    return text


@pytest.mark.parametrize("seed", range(N_DESIGNS))
def test_all_at_once_gives_what_one_by_one_gives(seed, tmp_path, monkeypatch):
    path = tmp_path / "random.toml"
    path.write_text(random_scenario(seed))
    scenario = load_scenario(path)
    one = prepare_condition(scenario, conditions(scenario)[0])
    together = analyse_replicates(one, range(1, N_REPLICATES + 1))
    monkeypatch.setattr(own_rows, "fitted_together", lambda _: Together({}, {}))
    alone = analyse_replicates(one, range(1, N_REPLICATES + 1))
    for found, expected in zip(together, alone, strict=True):
        for name in found.column_names:
            if name in ("evaluations", "certificate"):  # of another order of the same sums
                continue
            values, others = found[name].to_pylist(), expected[name].to_pylist()
            if isinstance(next((x for x in others if x is not None), None), float):
                values, others = np.array([values, others], dtype=np.float64)
                # derivatives are differences; limits far from the estimate are exponentials of them
                exact = name in ("estimate", "realized", "loglik", "true_se")
                np.testing.assert_allclose(
                    values, others, rtol=1e-7 if exact else 5e-4, atol=1e-7, err_msg=name
                )
            else:
                assert values == others


def test_most_methods_need_no_data_frames(tmp_path):
    text = re.split(r"\[\[(estimands|methods)\]\]", random_scenario(0))[0]
    path = tmp_path / "all.toml"
    for number, (formula, estimator, _) in enumerate(METHODS):
        text += f'[[methods]]\nname = "m{number}"\nestimator = "{estimator}"\n'
        text += f'formula = "{formula.format("animal")}"\n'
    path.write_text(text)
    scenario = load_scenario(path)
    one = prepare_condition(scenario, conditions(scenario)[0])
    assert fitted_together(one).methods.keys() == one.ready.keys()
