"""Before a run: starter scenarios, dry run."""

KINDS = ("nested", "two-level", "longitudinal", "power")  # of starters/
