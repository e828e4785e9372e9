"""A study that grows keeps the bytes it has, and ends where a study of that size would."""

import json

import pandas as pd
import pytest

from mcsim.errors import StudyMismatchError
from mcsim.results.identity import Identity, PartContents, changed_keys, grow
from mcsim.results.store import Store
from mcsim.scenario.load import load_scenario
from mcsim.study.run import RunOptions, run_study
from mcsim.summary.printed import to_csv
from mcsim.summary.summarize import summarize
from tests.conftest import SMALL
from tests.results.test_store import files

LARGER = """
[[methods]]
name = "larger"
formula = "y ~ diet * x + (x | animal/image)"
estimator = "ml"
likelihood_ratio = "smaller"
"""
SMALLER = """
[[methods]]
name = "smaller"
formula = "y ~ diet * x + (1 | animal/image)"
estimator = "ml"
"""
SWEEP = '\n[sweep]\n"truth.sigma" = [0.5, 1.0]\n'
WIDER = '\n[sweep]\n"truth.sigma" = [0.25, 0.5, 1.0]\n'


@pytest.fixture
def run(tmp_path):
    """Run a scenario in this process."""

    def run_text(text, name="study", **options):
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        replicates = options.pop("n", None)
        scenario = load_scenario(path, replicates=replicates)
        run_study(scenario, RunOptions(tmp_path / name, n_workers=1, **options))
        return tmp_path / name

    return run_text


def parts(folder):
    return {name: content for name, content in files(folder).items() if "/part-" in name}


def rows(folder, kind="estimates"):
    """Sorted rows of all files, as any reader of the folder gets them."""
    frame = pd.read_parquet(folder / kind)
    keys = ["condition", "replicate", "method", *(["parameter"] if kind == "estimates" else [])]
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("category"), str))
    return frame.sort_values(keys).reset_index(drop=True)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((SMALL, 45), (SMALL, 70)),
        ((SMALL + SWEEP, 20), (SMALL + WIDER, 20)),
        ((SMALL, 40), (SMALL + SMALLER, 40)),
        ((SMALL, 40), (SMALL + SMALLER, 70)),
        ((SMALL + SMALLER, 40), (SMALL + SMALLER + LARGER, 40)),  # tested against an old method
        ((SMALL + SWEEP, 20), (SMALL + SMALLER + LARGER + WIDER, 45)),
    ],
    ids=["replicates", "condition", "method", "method and replicates", "test", "everything"],
)
def test_what_was_there_keeps_its_bytes_and_the_rest_is_that_of_a_new_study(run, first, then):
    before = parts(run(first[0], n=first[1]))
    grown = run(then[0], n=then[1])
    assert before.items() <= parts(grown).items()
    fresh = run(then[0], "fresh", n=then[1])
    for kind in ("estimates", "fits"):
        pd.testing.assert_frame_equal(rows(grown, kind), rows(fresh, kind), check_exact=True)
    assert to_csv(summarize([grown])) == to_csv(summarize([fresh]))
    for name in ("scenario.toml", "conditions.parquet"):
        assert (grown / name).read_bytes() == (fresh / name).read_bytes()
    again = parts(grown)
    assert parts(run(then[0], n=then[1])) == again


def test_methods_in_another_order_are_the_same_study(run):
    blocks = SMALL.split("[[methods]]")
    before = parts(run(SMALL, n=20))
    swapped = "[[methods]]".join([blocks[0], blocks[2], blocks[1]])
    assert parts(run(swapped, n=20)) == before


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("seed = 7", "seed = 8", ["seed is 7 there and 8 here"]),
        ("sigma = 0.5", "sigma = 0.6", ["truth.sigma is 0.5 there and 0.6 here"]),
        (
            'df = ["containment", "z"]',
            'df = "z"',
            ['methods.right.df is ["containment", "z"] there and ["z"] here'],
        ),
        (
            'name = "diagonal"',
            'name = "independent"',
            [
                'methods.diagonal.df is ["containment"] there and absent here',
                'methods.diagonal.estimator is "reml" there and absent here',
            ],
        ),
        (
            "[truth]\n",
            '[[estimands]]\nname = "total.sd(Intercept)"\n[truth]\n',
            ['estimands.names is absent there and ["total.sd(Intercept)"] here'],
        ),
        (
            "[[methods]]",
            f"{SWEEP}[[methods]]",
            [
                'conditions is ["all"] there and ["sigma=0.5", "sigma=1.0"] here',
                "sweep.truth.sigma is absent there and [0.5, 1] here",
            ],
        ),
    ],
)
def test_a_changed_scenario_is_refused_with_its_keys_and_nothing_is_touched(
    run, before, after, keys
):
    folder = run(SMALL, n=10)
    there = files(folder)
    with pytest.raises(StudyMismatchError) as caught:
        run(SMALL.replace(before, after, 1), n=10)
    assert caught.value.exit_code == 4
    for key in keys:
        assert f"\n  {key}" in str(caught.value)
    assert files(folder) == there


def test_a_value_written_in_another_way_labels_another_condition(run):
    run(SMALL + SWEEP, n=10)
    with pytest.raises(StudyMismatchError, match=r'conditions is .*"sigma=1.0".*"sigma=1"') as told:
        run(SMALL + SWEEP.replace("1.0", "1"), n=10)
    assert "the same, written otherwise: write swept values as" in str(told.value)
    with pytest.raises(StudyMismatchError) as other:
        run(SMALL + SWEEP.replace("1.0", "1.5"), n=10)
    assert "written otherwise" not in str(other.value)


@pytest.mark.parametrize(
    ("first", "then"), [(SMALL + WIDER, SMALL + SWEEP), (SMALL + LARGER + SMALLER, SMALL)]
)
def test_a_study_loses_neither_conditions_nor_methods(run, first, then):
    run(first, n=10)
    with pytest.raises(
        StudyMismatchError, match=r"sweep.truth.sigma is|methods.larger.* absent here"
    ):
        run(then, n=10)


def identity(methods, conditions=("all",), **values):
    named = {f"methods.{name}.df": ["z"] for name in methods}
    return Identity(
        {"seed": 1, "methods.names": list(methods), **named, **values},
        {label: f"hash of {label}" for label in conditions},
    )


def test_a_new_method_whose_name_begins_with_an_olds_is_new():
    there, here = identity(["a.b"]), identity(["a.b", "a", "a.b.c"])
    assert list(changed_keys(there, here)) == []
    changed = Identity(
        {**here.values, "methods.a.b.df": ["t"], "methods.a.b.x": 1}, here.conditions
    )
    assert list(changed_keys(there, changed)) == ["methods.a.b.df", "methods.a.b.x"]


def test_what_does_not_change_the_conditions_is_no_change():
    there = identity(["a"], ["n=1"], **{"design.n": 5, "sweep.design.n": [1]})
    here = identity(["a"], ["n=1", "n=2"], **{"design.n": 6, "sweep.design.n": [1, 2]})
    assert list(changed_keys(there, here)) == []
    assert list(changed_keys(here, there)) == ["design.n", "sweep.design.n"]


def test_keys_stand_for_all_that_determines_the_numbers():
    keys = {
        json.dumps(list(grow({}, one)))
        for one in (
            identity(["a"]),
            identity(["a"], ["other"]),
            identity(["b"]),
            identity(["a", "b"]),
            identity(["a"], seed=2),
            identity(["a"], confidence=0.9),
            identity(["a"], **{"methods.a.df": ["t"]}),
            identity(["a"], **{"estimands.names": ["c"]}),
        )
    }
    assert len(keys) == 8


def test_new_methods_of_a_condition_get_one_key_and_old_ones_keep_theirs():
    first = grow({}, identity(["a", "b"]))
    then = grow(first, identity(["c", "a", "b", "d"], ["all", "more"]))
    assert list(then.values()) == [
        PartContents("all", ("a", "b")),
        PartContents("all", ("c", "d")),
        PartContents("more", ("c", "a", "b", "d")),
    ]
    assert first.items() <= then.items()
    assert grow(then, identity(["c", "a", "b", "d"], ["all", "more"])) == then


def test_a_smaller_number_of_replicates_leaves_a_study_as_large_as_it_is(run):
    said = []
    before = files(run(SMALL, n=40))
    after = files(run(SMALL, n=20, report=said.append))
    assert after == before
    note = "The study stays at the 40 replicates that it has; this run does those up to 20."
    assert note in said


def test_a_smaller_number_of_replicates_does_not_finish_a_larger_study(run):
    folder = run(SMALL, n=400, replicates=[(1, 32)])
    run(SMALL, n=64)
    (status,) = Store.read(folder).status().conditions
    assert status.missing == ((65, 400),)
