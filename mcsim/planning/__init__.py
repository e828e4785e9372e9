"""Before a run: starter scenarios, dry run."""

KINDS = (  # of starters/
    *("nested", "two-level", "longitudinal", "power", "regions", "two-factors", "split-plot"),
    *("repeated-measures", "cross-over", "cluster-randomised", "stepped-wedge", "subjects-items"),
)
