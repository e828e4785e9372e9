"""The designs that are timed, and that tests of the same kind of response share."""

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

COUNTS = """
replicates = {n}
seed = 7
[design]
factors = {{ diet = ["fasted", "fed"] }}
[[design.levels]]
name = "animal"
count = 6
[[design.levels]]
name = "image"
count = 3
[design.observations]
count = 4
[design.covariates]
x = {{ grid = [0.0, 1.0] }}
cells = {{ values = [3, 5, 5, 8] }}
[truth]
{truth}
[truth.fixed]
Intercept = 0.3
x = 0.4
[truth.random.animal]
sd = {{ Intercept = 0.5 }}
[truth.random.image]
sd = {{ Intercept = 0.3 }}
{more}
[[methods]]
name = "laplace"
formula = "y ~ diet * x + (1 | animal/image)"
{method}
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
GENERAL = SEED.partition('[[methods]]\nname = "diagonal"')[0]  # one method
PROFILE = ['methods.general.interval="profile"']
BOOTSTRAP = ['methods.general.interval="bootstrap"', "methods.general.resamples=200"]
CORRELATED = ['methods.general.residual="ar1"']
