"""The table of estimators: each row has its method, and whatever a row says can be asked for."""

import subprocess
import sys
from dataclasses import replace

import pytest

from mcsim.cli.main import fit
from mcsim.errors import DataError
from mcsim.methods.method import MethodSettings, refuse_unsupported
from mcsim.methods.registry import METHODS
from mcsim.scenario.estimators import ESTIMATOR_FACTS, PLUGIN, facts_of, offered
from mcsim.scenario.families import GAUSSIAN, FamilyModel
from mcsim.scenario.plugin_file import PREFIX
from mcsim.scenario.records import MethodSpec
from mcsim.scenario.residuals import ResidualModel

AR1 = ResidualModel(correlation="ar1")


def test_every_estimator_has_a_method_and_every_method_a_row():
    assert set(ESTIMATOR_FACTS) == set(METHODS)
    assert f"{PLUGIN}:" == PREFIX


def test_any_function_of_a_plugin_has_the_row_of_plugins():
    assert facts_of("plugin:own_function") is ESTIMATOR_FACTS[PLUGIN]


@pytest.mark.parametrize("name", ESTIMATOR_FACTS)
def test_a_scenario_may_ask_for_what_a_row_gives_and_gets_its_first_df(name):
    estimator = "plugin:own" if name == PLUGIN else name
    facts = facts_of(estimator)
    given = {"name": "m", "formula": "y ~ x + (1 | animal)", "estimator": estimator}
    assert MethodSpec.model_validate(given).df == facts.df[:1]
    assert MethodSpec.model_validate(given | {"df": facts.df}).df == facts.df
    residual = AR1 if facts.has_residual_models else None
    family = None if GAUSSIAN in facts.families else FamilyModel("poisson", "log")
    for interval in facts.intervals:
        settings = MethodSettings(estimator, facts.df, 0.95, interval=interval, residual=residual)
        refuse_unsupported(replace(settings, family=family))


@pytest.mark.parametrize("name", ESTIMATOR_FACTS)
def test_what_a_row_does_not_give_is_refused(name):
    facts = ESTIMATOR_FACTS[name]
    asked = [{"df": (df,)} for df in offered(lambda one: one.df) if df not in facts.df]
    intervals = offered(lambda one: one.intervals)
    asked += [{"interval": one} for one in intervals if one not in facts.intervals]
    asked += [] if facts.has_residual_models else [{"residual": AR1}]
    for other in asked:
        settings = {"estimator": name, "df": facts.df, "confidence": 0.95} | other
        with pytest.raises(DataError, match=f"estimator '{name}' (does not give|has|gives no)"):
            refuse_unsupported(MethodSettings(**settings))


def test_the_command_fit_offers_what_likelihoods_give():
    choices = {option.name: list(option.type.choices) for option in fit.params[6:9]}
    assert choices == {
        "estimator": ["reml", "ml", "laplace"],
        "df": ["containment", "satterthwaite", "kenward-roger", "z"],
        "interval": ["wald", "profile", "bootstrap"],
    }


def test_the_table_loads_without_anything_heavy():
    code = "import sys, mcsim.scenario.estimators; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pydantic", "scipy", "pandas"} & set(done.stdout.split())
