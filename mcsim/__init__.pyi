from mcsim.interface import Study as Study
from mcsim.interface import compare as compare
from mcsim.interface import fit as fit
from mcsim.interface import plan as plan
from mcsim.interface import plot as plot
from mcsim.interface import read_estimates as read_estimates
from mcsim.interface import read_fits as read_fits
from mcsim.interface import run_study as run_study
from mcsim.interface import summarize as summarize
from mcsim.scenario.load import load_scenario as load_scenario
from mcsim.scenario.plugin_file import estimator as estimator

__version__: str
