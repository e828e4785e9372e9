"""The designs that are timed."""

SEED = """
title = "Benchmark"
replicates = 100
seed = 20240319
[design]
factors = { diet = ["fasted", "fed"] }
[[design.levels]]
name = "animal"
count = 25
[[design.levels]]
name = "image"
count = 10
[design.observations]
count = 10
[design.covariates]
x = { grid = [0.0, 1.0] }
[truth]
sigma = 0.085
[truth.fixed]
Intercept = 1.0
"diet[T.fed]" = 0.1
x = -0.5
"diet[T.fed]:x" = 0.2
[truth.random.animal]
sd = { Intercept = 0.015, x = 0.02 }
[truth.random.image]
sd = { Intercept = 0.06, x = 0.08 }
[[methods]]
name = "general"
formula = "y ~ diet * x + (x | animal/image)"
[[methods]]
name = "diagonal"
formula = "y ~ diet * x + (x || animal/image)"
"""

UNBALANCED = [
    "design.levels.image.count={uniform=[3,12]}",
    "design.observations.count={uniform=[5,10]}",
    "design.covariates.x={uniform=[0.0,1.0]}",
]
LARGE = [  # 100,000 rows in 10,000 unbalanced images
    "design.levels.animal.count=250",
    "design.levels.image.count=20",
    "design.observations.count={uniform=[5,15]}",
    "design.covariates.x={uniform=[0.0,1.0]}",
]
LOST = ["truth.missing.observations=0.1"]
REDRAWN = ["design.redraw=true"]
