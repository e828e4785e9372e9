"""R's nlme and lme4 as estimators: calls, failures, and numbers beside those of mcsim's REML."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mcsim.design.columns import model_columns
from mcsim.engine.optimum.search import Status
from mcsim.errors import DataError
from mcsim.formula import parse_formula
from mcsim.methods.method import MethodSettings
from mcsim.methods.r.call import r_call
from mcsim.methods.r.process import SCRIPT, r_versions
from mcsim.methods.registry import prepare_method
from mcsim.scenario.estimand import EstimandSpec
from tests.conftest import SMALL, run_mcsim
from tests.estimators import responses, unbalanced_frame

NESTED = "y ~ dose * x + (x | animal) + (1 | animal:image)"
Y = responses(unbalanced_frame(), 4)
NLME = MethodSettings("nlme", ("containment",), 0.95)
METHODS = """
[[methods]]
name = "r"
formula = "y ~ diet * x + (x | animal/image)"
estimator = "nlme"
"""
FAKE = """#!{python}
import pathlib, sys
if sys.argv[1] == "-e":
    print("R 4.0.0\\nnlme 3.1")
    sys.exit()
folder = pathlib.Path(sys.argv[2])
{body}
"""
ONE_LINE_THEN_DIE = """
numbers = ["1.5"] * {n_numbers}
(folder / "results.txt").write_text("\\t".join([*numbers, "W"]) + "\\n" + "1.5\\t1.")
print("caught segfault", file=sys.stderr)
sys.exit(139)
"""
REFUSE = "print('Error: the disk is full', file=sys.stderr)\nsys.exit(1)"


@pytest.fixture(scope="module")
def frame():
    frame = unbalanced_frame()
    for name in ("animal", "image"):
        frame[name] = pd.Categorical(frame[name].astype(str))
    return frame


@pytest.fixture
def fake_r(tmp_path, monkeypatch):
    """Makes a program Rscript that has nlme and does what a body in Python says."""

    def make(body):
        program = tmp_path / "bin" / "Rscript"
        program.parent.mkdir()
        program.write_text(FAKE.format(python=sys.executable, body=body))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    r_versions.cache_clear()
    yield make
    r_versions.cache_clear()


def prepared(frame, formula, settings, structure=None):
    return prepare_method(model_columns(parse_formula(formula), frame, structure), settings)


def analysed(method, y):
    return method.analyse([method.take(y)], np.random.default_rng)


@pytest.mark.parametrize(
    ("formula", "structure", "random"),
    [
        ("(x | animal/image)", {}, "~ x | animal/image"),
        ("(1 | animal)", {}, "~ 1 | animal"),
        ("(x || animal/image)", {}, "list(animal = pdDiag(~ x), image = pdDiag(~ x))"),
        ("(x | animal) + (1 | animal:image)", {}, "list(animal = ~ x, image = ~ 1)"),
        ("(0 + dose | animal)", {"animal": "compound"}, "list(animal = pdCompSymm(~ 0 + dose))"),
        ("(dose | animal)", {"animal": "identity"}, "list(animal = pdIdent(~ dose))"),
        ("(x | animal)", {"animal": "diagonal"}, "list(animal = pdDiag(~ x))"),
        ("(1 || animal)", {}, "list(animal = pdDiag(~ 1))"),
        (
            "(dose + x || animal)",
            {},
            "list(animal = pdBlocked(list(~ 1, ~ 0 + dose, ~ 0 + x)))",
        ),
        ("(0 + C(dose) | animal)", {}, "~ 0 + factor(dose) | animal"),
        (
            "(1 | animal) + (0 + x | animal)",
            {},
            "list(animal = pdBlocked(list(~ 1, ~ 0 + x)))",
        ),
    ],
)
def test_random_terms_in_the_words_of_nlme(frame, formula, structure, random):
    columns = model_columns(parse_formula(f"y ~ dose + {formula}"), frame, structure)
    assert r_call(columns, "nlme") == f"lme(y ~ dose, data = data, random = {random})"


def test_lme4_gets_the_formula_as_it_was_read(frame):
    text = "y ~ dose * I(x ** 2) + (x || animal) + (1 | animal:image)"
    assert r_call(model_columns(parse_formula(text), frame), "lme4") == f"lmer({text}, data = data)"


@pytest.mark.parametrize(
    ("formula", "structure", "message"),
    [
        ("y ~ x", {}, "no random effect; add a term such as"),
        ("y ~ center(x) + (1 | animal)", {}, r"R has no center\(\)"),
        ("y ~ (1 + x):dose + (1 | animal)", {}, "has 0 or 1 in parentheses"),
        ("y ~ x + (1 || animal)", {}, r"lme4 cannot read \(1 \|\| ...\) with one effect"),
        (
            "y ~ x + (1 | image) + (0 + x | animal:image)",
            {},
            "image and animal:image are the same units; write one of them",
        ),
        ("y ~ x + (dose | animal)", {"animal": "compound"}, "lme4 has no structure like that of"),
        ("y ~ x + (x | animal)", {"animal": "diagonal"}, "lme4 has no structure like that of"),
    ],
)
def test_what_r_cannot_fit_is_refused(frame, formula, structure, message):
    parsed = parse_formula(formula).outermost_first(["animal", "image"].index)
    columns = model_columns(parsed, frame, structure)
    with pytest.raises(DataError, match=message):
        r_call(columns, "lme4")


def test_names_and_codings_in_the_words_of_r(frame):
    names = {"x": "_x", "animal": "Mouse ID", "dose": "if"}
    frame = frame.rename(columns=names).assign(TRUE=frame["x"] ** 2)
    text = '`y (mV)` ~ C(if, Sum) + _x + TRUE + C(if, Treatment("low")):_x + (1 | `Mouse ID`)'
    columns = model_columns(parse_formula(text), frame)
    assert r_call(columns, "lme4") == (
        'lmer(`y (mV)` ~ C(factor(`if`), "contr.sum") + `_x` + `TRUE`'
        ' + relevel(factor(`if`), ref = "low"):`_x` + (1 | `Mouse ID`), data = data)'
    )
    with pytest.raises(DataError, match=r"nlme cannot read the name 'y \(mV\)'; rename it"):
        r_call(columns, "nlme")


@pytest.mark.parametrize("label", ["low\t", "\x01", "\x7f", "\u2028"])
def test_levels_that_r_would_change_are_refused(frame, label):
    dose = frame["dose"].cat.rename_categories({frame["dose"].cat.categories[0]: label})
    columns = model_columns(parse_formula("y ~ dose + (1 | animal)"), frame.assign(dose=dose))
    with pytest.raises(DataError, match=r"R cannot take the level .* of 'dose'; rename it"):
        r_call(columns, "nlme")


def test_without_r_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "s.toml").write_text(SMALL + METHODS)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_mcsim("run", "s.toml", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "there is no Rscript on the path" in done.stderr
    assert "apt-get install r-base-core" in done.stderr


def test_without_the_package_the_message_says_how_to_install_it(fake_r, frame):
    fake_r("")
    settings = MethodSettings("lme4", ("satterthwaite",), 0.95)
    with pytest.raises(DataError) as refusal:
        prepared(frame, NESTED, settings)
    assert str(refusal.value).startswith("R has no package 'lme4'. Install it: Rscript -e")
    assert 'install.packages(c("lme4", "lmerTest"), repos' in str(refusal.value)


def test_a_fit_that_ends_r_fails_and_the_next_are_fitted(fake_r, frame):
    n_numbers = 2 + 4 * 8 + 4 + 1  # likelihood, sigma; 6 effects, 2 terms; covariances
    fake_r(ONE_LINE_THEN_DIE.format(n_numbers=n_numbers))
    analysis = analysed(prepared(frame, NESTED, NLME), Y[:4])
    assert [message is None for message in analysis.fits.message] == [True, False, True, False]
    assert analysis.fits.message[1] == "R ended (exit code 139): caught segfault"
    assert analysis.fits.status[1] == Status.FAILED
    assert list(analysis.fits.loglik[[0, 2]]) == [1.5, 1.5]
    assert np.isnan(analysis.estimates["containment"][0].estimate[[1, 3]]).all()


def test_an_r_that_does_not_begin_fails_the_block(fake_r, frame):
    fake_r(REFUSE)
    analysis = analysed(prepared(frame, NESTED, NLME), Y[:3])
    assert analysis.fits.message == ["R ended (exit code 1): Error: the disk is full"] * 3


needs_r = [
    pytest.mark.r,
    pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R"),
]


def needing_r(test):
    for mark in needs_r:
        test = mark(test)
    return test


def compared(frame, formula, settings, structure=None):
    """Blocks of REML and of R, replicates that are regular in both."""
    ours = MethodSettings("reml", settings.df, settings.confidence, settings.estimands)
    analyses = [
        analysed(prepared(frame, formula, one, structure), Y) for one in (ours, settings)
    ]  # fmt: skip
    regular = np.all([one.fits.status == Status.OK for one in analyses], axis=0)
    assert regular.sum() >= 2
    assert analyses[1].fits.loglik[regular] == pytest.approx(analyses[0].fits.loglik[regular])
    return [one.estimates for one in analyses], regular


HALF = EstimandSpec(name="half", fixed={"dose[T.low]": 1.0, "dose[T.low]:x": 0.5})
TOTAL = EstimandSpec(name="total.sd(Intercept)")


@needing_r
@pytest.mark.parametrize(
    ("estimator", "df"),
    [("nlme", "containment"), ("lme4", "z"), ("lme4", "satterthwaite"), ("lme4", "kenward-roger")],
)
def test_r_and_reml_agree_where_both_end_inside(frame, estimator, df):
    settings = MethodSettings(estimator, (df,), 0.9, (HALF, TOTAL))
    (ours, theirs), regular = compared(frame, NESTED, settings)
    assert [one.parameter for one in ours[df]] == [one.parameter for one in theirs[df]]
    for one, other in zip(ours[df], theirs[df], strict=True):
        # R's optimizers stop at about 1e-4 of an SD; df are more sensitive than all else
        close = {"rel": 5e-3, "abs": 1e-4, "nan_ok": True}
        assert one.estimate[regular] == pytest.approx(other.estimate[regular], **close)
        if one.parameter.component not in ("fixed", "terms"):
            continue
        for key in ("std_error", "ci_lower", "ci_upper", "p_value"):
            wanted = getattr(one, key)[regular]
            assert getattr(other, key)[regular] == pytest.approx(wanted, **close)
        assert other.df[regular] == pytest.approx(one.df[regular], rel=0.02, nan_ok=True)


@needing_r
@pytest.mark.parametrize(
    ("formula", "structure"),
    [
        ("y ~ dose * x + (x || animal) + (1 | animal:image)", {}),
        ("y ~ dose * x + (x | animal)", {"animal": "identity"}),
        ("y ~ x + (1 | animal) + (0 + x | animal)", {}),
    ],
)
def test_structures_mean_the_same_in_nlme(frame, formula, structure):
    compared(frame, formula, NLME, structure)


@needing_r
def test_columns_are_found_by_their_values(frame):
    # R calls them otherwise, and lmer leaves out what the columns before determine
    frame = frame.assign(twice=2.0 * frame["x"])
    settings = MethodSettings("lme4", ("z",), 0.95)
    compared(frame, "y ~ x + twice + I(x**2) + dose + (1 | animal)", settings)


@needing_r
def test_an_error_of_r_is_the_message_of_a_failed_fit(frame):
    frame = frame.assign(twice=2.0 * frame["x"])
    analysis = analysed(prepared(frame, "y ~ x + twice + (1 | animal)", NLME), Y[:2])
    assert list(analysis.fits.status) == [Status.FAILED] * 2
    assert "Singularity in backsolve" in str(analysis.fits.message[0])


@needing_r
@pytest.mark.parametrize(
    ("settings", "x"),
    [(NLME, "µm.to.wall"), (MethodSettings("lme4", ("z",), 0.95), "Distance (µm)")],
)
@pytest.mark.parametrize("coding", ["Sum", "Helmert", "Poly", 'Treatment("low")'])
def test_names_and_codings_mean_the_same_in_r(frame, settings, x, coding):
    names = {"x": x, "animal": "Mouse.ID", "dose": "class", "image": "image.no"}
    text = f"yield ~ C(class, {coding}) * `{x}` + (1 | Mouse.ID/image.no)"
    ours, regular = compared(frame.rename(columns=names), text, settings)
    (df,) = settings.df
    for one, other in zip(*(own[df] for own in ours), strict=True):
        close = {"rel": 5e-3, "abs": 1e-4, "nan_ok": True}
        assert one.estimate[regular] == pytest.approx(other.estimate[regular], **close)


@needing_r
def test_labels_and_blocks_do_not_matter(frame):
    odd = ['say "no"', "back\\slash", "größe"]
    frame = frame.assign(dose=frame["dose"].cat.rename_categories(odd))
    method, y = prepared(frame, NESTED, NLME), Y[:3]
    one = analysed(method, y)
    parts = [analysed(method, y[row : row + 1]) for row in range(3)]
    for position, block in enumerate(one.estimates["containment"]):
        others = [part.estimates["containment"][position].estimate for part in parts]
        assert block.estimate.tobytes() == np.concatenate(others).tobytes()


@needing_r
def test_without_its_parent_r_ends_and_removes_the_folder(frame, tmp_path, monkeypatch):
    folders = []

    def keep(command, **options):
        folders.append(tmp_path / "kept")
        shutil.copytree(command[2], folders[-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    method = prepared(frame, NESTED, NLME)
    monkeypatch.setattr("mcsim.methods.r.process.subprocess.run", keep)
    analysed(method, Y[:1])
    monkeypatch.undo()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    command = ["Rscript", str(SCRIPT), str(folders[0]), str(ended.pid)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not folders[0].exists()


@needing_r
def test_the_call_is_in_the_plan_and_in_the_manifest(tmp_path):
    (tmp_path / "s.toml").write_text(SMALL + METHODS)
    call = "library(nlme); lme(y ~ diet * x, data = data, random = ~ x | animal/image)"
    arguments = ("s.toml", "-n", 2, "--max-failures", 1)
    assert f"in R: {call}" in run_mcsim("run", *arguments, "--dry-run", cwd=tmp_path).stdout
    done = run_mcsim("run", *arguments, "-o", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "r" / "manifest.json").read_text())["r"]
    assert record["calls"] == {"r": call}
    assert set(record["versions"]) == {"R", "nlme"}
