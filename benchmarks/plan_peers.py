"""The question of `configs/how_many_animals.toml`, asked of programs of R.

They simulate and fit one design at a time, by the thousand. What they try is found with a test
that costs nothing and finds the effect as often; twenty of those designs, evenly spaced by size,
are then simulated and fitted, and all counted at their mean. So seconds are of a whole answer, in
processor time.
"""

from benchmarks.peers import rscript

COMMON = """
suppressMessages(library(lmerTest))
x <- seq(0, 1, length.out = 20)
one <- function(animals, images) {  # animals per diet; whether the test finds the effect
  n <- 2 * animals
  d <- expand.grid(x = x, image = factor(seq_len(images)), animal = factor(seq_len(n)))
  a <- as.integer(d$animal)
  i <- (a - 1) * images + as.integer(d$image)
  d$diet <- factor(a %% 2 == 0)
  slopes <- rnorm(n, 0, 0.02)[a] + rnorm(n * images, 0, 0.08)[i] + 0.06 * (a %% 2 == 0)
  heights <- 1 + rnorm(n, 0, 0.015)[a] + rnorm(n * images, 0, 0.06)[i]
  d$y <- heights + slopes * d$x + rnorm(nrow(d), 0, 0.085)
  m <- suppressMessages(lmer(y ~ diet * x + (x | animal/image), d))
  coef(summary(m))["dietTRUE:x", "Pr(>|t|)"] < 0.05
}
seconds <- function(what) sum(system.time(what)[1:2])
tried <- NULL
quick <- function(animals, images) {
  tried <<- rbind(tried, c(animals, images))
  se <- sqrt(2 / animals * (0.02^2 + (0.08^2 + 0.085^2 / sum((x - 0.5)^2)) / images))
  df <- 2 * animals - 2
  as.numeric(runif(1) < pt(0.06 / se - qt(0.975, df), df))
}
with_fits <- function(search) {
  by_size <- tried[order(tried[, 1] * tried[, 2]), ]
  some <- by_size[ceiling(nrow(tried) * (1:20 - 0.5) / 20), ]
  each <- apply(some, 1, function(k) seconds(suppressWarnings(one(k[1], k[2]))))
  search + nrow(tried) * mean(each)
}
set.seed(1)
"""
ANSWERS = {
    "a loop of lmerTest, 4,000 times the answer": """
    one(6, 15)
    cat(4000 / 5 * seconds(for (k in 1:5) one(6, 15)))
    """,
    "mlpwr's find.design of animals and images": """
    library(mlpwr)
    cost <- function(animals, images) 2 * animals * (300 + images * (10 + 20 * 0.2))
    ranges <- list(animals = c(3, 60), images = c(2, 20))
    search <- seconds(find.design(quick, ranges, power = 0.8, costfun = cost, silent = TRUE))
    cat(with_fits(search))
    """,
    "SimDesign's SimSolve of animals, 15 images": """
    suppressMessages(library(SimDesign))
    search <- seconds(SimSolve(
      createDesign(animals = NA), c(3, 60), 0.8,
      function(condition, fixed_objects) condition$animals,
      function(condition, dat, fixed_objects) c(found = quick(dat, 15)),
      function(condition, results, fixed_objects) mean(unlist(results)),
      save = FALSE, verbose = FALSE
    ))
    cat(with_fits(search))
    """,
    "simr's powerCurve of animals, 15 images": """
    suppressMessages(library(simr))
    sds <- function(a, b) diag(c(a, b)^2)
    d <- expand.grid(x = x, image = factor(1:15), animal = factor(1:120))
    d$diet <- factor(as.integer(d$animal) %% 2 == 0)
    truth <- list(sds(0.06, 0.08), sds(0.015, 0.02))
    m <- makeLmer(y ~ diet * x + (x | animal/image), c(1, 0, 0, 0.06), truth, 0.085, d)
    test <- fixed("dietTRUE:x", "sa")
    cat(1000 * seconds(suppressMessages(  # of 1,000 data sets per design, unless told
      powerCurve(m, test, along = "animal", nsim = 1, progress = FALSE)
    )))
    """,
}


def answers(plan_seconds: float) -> list[tuple[str, str]]:
    """What is asked, and its seconds beside those of a plan; or why there are none."""
    return [
        (f"... {name}, in R, estimated", _seconds(own, plan_seconds))
        for name, own in ANSWERS.items()
    ]


def _seconds(script: str, plan_seconds: float) -> str:
    try:
        done = rscript("-e", COMMON + script)
    except FileNotFoundError:
        return "not here: there is no Rscript"
    if done.returncode:
        return f"not here: {done.stderr.strip().splitlines()[0]}".replace("|", "/")
    found = float(done.stdout.split()[-1])
    return f"{found:,.0f} s, {found / plan_seconds:,.0f} times"
