"""The name that users' files say: `from mcsim.plugins import estimator`."""

from mcsim.scenario.plugin_file import estimator

__all__ = ["estimator"]
