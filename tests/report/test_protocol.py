"""What a study does, in words."""

from mcsim.report.protocol import protocol
from mcsim.scenario.load import load_scenario
from mcsim.summary.selection import Shown

FACTORS = (
    'design.factors.region={ levels = ["portal", "central"], of = "image" }',
    'design.factors.stain={ levels = ["a", "b"], of = "observation" }',
    'design.factors.drug={ levels = ["A", "B"], of = ["animal", "stain"], dealt = "latin" }',
    "design.redraw=true",
    'design.covariates.z={ starts = { level = "animal", along = "stain" } }',
)


def test_factors_are_told_with_what_they_differ_between(small_scenario):
    scenario = load_scenario(small_scenario, overrides=FACTORS)
    told = protocol(scenario, Shown("", 0.95, [], {}), {"all": "9 units"}).mechanism
    lines = ["".join(sentence) for sentence in told]
    for line in (
        "These numbers of units are one draw: every data set has its own.",
        "Factor diet (fasted and fed) differs between units of animal; fasted is the reference.",
        "Factor region (portal and central) differs between units of image; portal is the"
        " reference.",
        "Factor stain (a and b) differs between observations of one unit of image; a is the"
        " reference.",
        "Factor drug (A and B) differs between cells of animal and stain as a Latin square; A is"
        " the reference.",
        "z: 1 once the unit of animal has started, a step of stain after the other.",
    ):
        assert line in lines


def test_swept_values_are_in_combination_where_two_keys_have_several(small_scenario):
    keys = ("design.levels.image.count", "truth.sigma")
    for values, end in ((("[2, 5]", "[0.1]"), "is 0.1."), (("[2]", "[0.1, 1]"), "is 0.1, 1.")):
        sweep = [f'sweep."{key}"={value}' for key, value in zip(keys, values, strict=True)]
        scenario = load_scenario(small_scenario, overrides=sweep)
        aims = "".join(protocol(scenario, Shown("", 0.95, [], {}), {}).aims)
        assert aims.endswith(end)
    scenario = load_scenario(small_scenario, overrides=[f'sweep."{key}"=[1, 2]' for key in keys])
    aims = "".join(protocol(scenario, Shown("", 0.95, [], {}), {}).aims)
    assert aims.endswith("is 1, 2, in all combinations.")
