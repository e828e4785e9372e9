# Data and fits of residual_*.csv and residual_*.json: Rscript residual.R, in this folder. The data
# residual_gaps.csv: mcsim simulate residual_gaps.toml --replicate 1 -o residual_gaps.csv.
# The best log-likelihood of two optimizers and several starts counts.
library(nlme)

units <- function(animals, images, points) {
  # numbers of images per animal and of points per image, fixed or drawn from a range
  draw <- function(n, range) if (length(range) == 1) rep(range, n) else sample(range[1]:range[2], n, TRUE)
  n_images <- draw(animals, images)
  animal <- rep(seq_len(animals), n_images)
  n_points <- draw(length(animal), points)
  image <- rep(seq_along(animal), n_points)
  animal <- animal[image]
  x <- if (length(points) == 1) rep(seq(0, 1, length.out = points), length(n_points)) else
    unlist(lapply(n_points, function(n) sort(round(runif(n), 4))))
  data.frame(animal = sprintf("a%02d", animal), image = sprintf("i%03d", image),
             diet = ifelse(animal %% 2 == 0, "fed", "fasted"), x = x)
}

responses <- function(d, residuals, slope_sd) {
  u <- function(group, sd) { g <- factor(group); rnorm(nlevels(g), 0, sd)[g] }
  round(1 + 0.3 * (d$diet == "fed") - 0.5 * d$x + u(d$animal, 0.4) + u(d$image, 0.3) +
        u(d$image, slope_sd) * d$x + residuals, 5)
}

ar1 <- function(image, phi) ave(rnorm(length(image)), image, FUN = function(z) {
  e <- z
  for (k in seq_along(z)[-1]) e[k] <- phi * e[k - 1] + sqrt(1 - phi^2) * z[k]
  e
})

even <- function(image, rho) ave(rnorm(length(image)), image, FUN = function(z) {
  n <- length(z)
  R <- matrix(rho, n, n); diag(R) <- 1
  as.vector(t(chol(R)) %*% z)
})

better <- function(fits) {
  fits <- Filter(Negate(is.null), fits)
  fits[[which.max(vapply(fits, logLik, 0))]]
}

attempts <- function(fit, structures) better(unlist(lapply(structures, function(structure)
  lapply(c("nlminb", "optim"), function(opt)
    tryCatch(suppressWarnings(fit(structure, opt)), error = function(e) NULL))), recursive = FALSE))

control <- function(opt) lmeControl(opt = opt, maxIter = 500, msMaxIter = 2000, niterEM = 50,
                                    tolerance = 1e-10, msTol = 1e-12, returnObject = TRUE)
gls_control <- function(opt) glsControl(opt = opt, maxIter = 500, msMaxIter = 2000, tolerance = 1e-10,
                                        msTol = 1e-12, returnObject = TRUE)

mixed <- function(d, random, structures, method) attempts(function(s, opt)
  lme(y ~ diet * x, d, random = random, correlation = s$correlation, weights = s$weights,
      method = method, control = control(opt)), structures)
marginal <- function(d, structures, method) attempts(function(s, opt)
  gls(y ~ diet * x, d, correlation = s$correlation, weights = s$weights,
      method = method, control = gls_control(opt)), structures)

covariances <- function(fit) lapply(rev(as.list(fit$modelStruct$reStruct)), function(one)
  unname(as.matrix(one)) * fit$sigma^2)

parameter <- function(fit, by, levels) {
  # phi, rho, or ratios of SDs to that of the first level; and the SD of the first level
  structure <- fit$modelStruct$corStruct
  if (!is.null(structure))
    return(list(residual = unname(as.vector(coef(structure, unconstrained = FALSE))), sigma = fit$sigma))
  sds <- coef(fit$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)[levels]
  list(residual = unname(sds[-1] / sds[1]), sigma = unname(fit$sigma * sds[1]))
}

told <- function(fit, d, by) {
  levels <- if (is.null(by)) NULL else sort(unique(d[[by]]))
  is_mixed <- inherits(fit, "lme")
  beta <- if (is_mixed) fixef(fit) else coef(fit)
  se <- sqrt(diag(if (is_mixed) fit$varFix else fit$varBeta))
  n <- nrow(d); p <- length(beta)
  # gls takes the divisor n - p for standard errors, whatever sigma has
  if (!is_mixed && fit$method == "ML") se <- se * sqrt((n - p) / n)
  own <- parameter(fit, by, levels)
  list(logLik = as.numeric(logLik(fit)), beta = unname(beta), se = unname(se),
       df = if (is_mixed) unname(summary(fit)$tTable[, "DF"]) else rep(n - p, p),
       sigma = own$sigma, residual = own$residual,
       covariances = if (is_mixed) covariances(fit) else list())
}

to_json <- function(value) {
  if (is.list(value)) {
    parts <- vapply(value, to_json, "")
    if (is.null(names(value))) return(paste0("[", paste(parts, collapse = ", "), "]"))
    return(paste0("{", paste0('"', names(value), '": ', parts, collapse = ",\n "), "}"))
  }
  if (is.character(value)) return(paste0('"', value, '"'))
  trimws(formatC(value, digits = 15, format = "g"))
}

as_list <- function(value) structure(as.list(value), names = NULL)

rows_of <- function(S) lapply(seq_len(nrow(S)), function(i) as_list(S[i, ]))

write_fits <- function(name, d, models) {
  models <- lapply(models, function(model) lapply(c(REML = "REML", ML = "ML"), function(method) {
    one <- told(model$fit(method), d, model$by)
    for (key in c("beta", "se", "df", "residual")) one[[key]] <- as_list(one[[key]])
    one$covariances <- unname(lapply(one$covariances, rows_of))
    c(list(formula = model$formula, residual_model = model$residual), one)
  }))
  json <- to_json(list(R = R.version.string, nlme = as.character(packageVersion("nlme")), models = models))
  writeLines(json, paste0("residual_", name, ".json"))
}

slopes <- list(animal = pdDiag(~1), image = pdSymm(~x))
slopes_formula <- "y ~ diet * x + (1 | animal) + (x | animal:image)"
gls_formula <- "y ~ diet * x"
animal_formula <- "y ~ diet * x + (1 | animal)"

correlated <- function(d, kind) {
  nested <- function(starts) lapply(starts, function(v)
    list(correlation = if (kind == "ar1") corAR1(v, ~1 | animal/image) else corCompSymm(v, ~1 | animal/image)))
  flat <- function(starts) lapply(starts, function(v)
    list(correlation = if (kind == "ar1") corAR1(v, ~1 | image) else corCompSymm(v, ~1 | image)))
  starts <- if (kind == "ar1") c(-0.3, 0.2, 0.6, 0.9) else c(0.05, 0.3, 0.7)
  own <- if (kind == "ar1") list(slopes = list(formula = slopes_formula, residual = "ar1",
    fit = function(method) mixed(d, slopes, nested(starts), method))) else list(slopes = list(
    formula = "y ~ diet * x + (1 | animal) + (0 + x | animal:image)", residual = "exchangeable",
    fit = function(method) mixed(d, list(animal = ~1, image = ~ 0 + x), nested(starts), method)))
  c(own, list(
    animal = list(formula = animal_formula, residual = kind,
                  fit = function(method) mixed(d, ~1 | animal, nested(starts), method)),
    gls = list(formula = gls_formula, residual = kind, fit = function(method) marginal(d, flat(starts), method))))
}

uneven <- function(d, by) {
  form <- as.formula(paste("~ 1 |", by))
  structures <- lapply(c(0.5, 1, 2), function(v) {
    others <- setdiff(unique(d[[by]]), d[[by]][1])
    list(weights = varIdent(setNames(rep(v, length(others)), others), form))
  })
  residual <- paste0("by:", by)
  list(slopes = list(formula = slopes_formula, residual = residual, by = by,
                     fit = function(method) mixed(d, slopes, structures, method)),
       animal = list(formula = animal_formula, residual = residual, by = by,
                     fit = function(method) mixed(d, ~1 | animal, structures, method)),
       gls = list(formula = gls_formula, residual = residual, by = by,
                  fit = function(method) marginal(d, structures, method)))
}

make <- function(name, sizes, residuals, slope_sd, models) {
  d <- do.call(units, sizes)
  if (startsWith(name, "by_stain")) d$stain <- sample(c("blue", "green", "red"), nrow(d), TRUE)
  d$y <- responses(d, residuals(d), slope_sd)
  write.csv(d, paste0("residual_", name, ".csv"), row.names = FALSE, quote = FALSE)
  write_fits(name, d, models(d))
}
of_diet <- function(d) ifelse(d$diet == "fed", 0.6, 0.3) * rnorm(nrow(d))
of_stain <- function(d) c(blue = 0.3, green = 0.6, red = 0.45)[d$stain] * rnorm(nrow(d))
even_by <- function(rho) function(d) 0.5 * even(d$image, rho)
serial_by <- function(phi) function(d) 0.5 * ar1(d$image, phi)

set.seed(20240319)
make("ar1_balanced", list(10, 4, 8), serial_by(0.5), 1.2, function(d) correlated(d, "ar1"))
make("ar1_unbalanced", list(12, c(2, 6), c(4, 10)), serial_by(0.75), 1.5, function(d) correlated(d, "ar1"))
make("exchangeable_balanced", list(10, 4, 6), even_by(0.3), 0.4, function(d) correlated(d, "exchangeable"))
make("exchangeable_unbalanced", list(12, c(2, 6), c(3, 8)), even_by(0.1), 0.5,
     function(d) correlated(d, "exchangeable"))
make("by_diet_balanced", list(10, 4, 8), of_diet, 0.5, function(d) uneven(d, "diet"))
make("by_stain_unbalanced", list(12, c(2, 6), c(4, 10)), of_stain, 0.5, function(d) uneven(d, "stain"))

# 30 points along x, of which two in five are lost: distances by the number of the point
d <- read.csv("residual_gaps.csv")
d$point <- round(29 * d$x)
starts <- lapply(c(0.2, 0.6, 0.9), function(v) list(correlation = corAR1(v, ~ point | animal)))
write_fits("gaps", d, list(animal = list(formula = animal_formula, residual = "ar1(x)",
                                         fit = function(method) mixed(d, ~1 | animal, starts, method))))
