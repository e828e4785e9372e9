# Fits the responses of a block, one after the other: Rscript fit_block.R FOLDER PARENT
#
# FOLDER/setup.R says what to do; FOLDER/numbers.bin holds doubles, matrix after matrix: the columns
# of the data, the fixed-effect columns as mcsim makes them, the contrasts, the responses. A line of
# FOLDER/results.txt is a replicate: log-likelihood, per df and contrast estimate, standard error, df
# and p-value, covariance matrices outermost level first, sigma, and why the fit is not usable.
# Without the process PARENT, nobody waits for the rest.

arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
parent <- as.integer(arguments[2])
source(file.path(folder, "setup.R"), encoding = "UTF-8")
options(contrasts = c("contr.treatment", "contr.poly"), warn = 1)
for (package in packages) {
  suppressPackageStartupMessages(library(package, character.only = TRUE))
}

numbers <- file(file.path(folder, "numbers.bin"), "rb")
next_matrix <- function(rows, columns) {
  matrix(readBin(numbers, "double", rows * columns), rows, columns)
}
codes <- next_matrix(n_rows, length(labels))
X <- next_matrix(n_rows, n_fixed)
contrast_rows <- next_matrix(sum(contrast_sizes), n_fixed)
responses <- next_matrix(n_rows, n_replicates)
close(numbers)

data <- data.frame(row.names = seq_len(n_rows))
for (column in seq_along(labels)) {
  own <- labels[[column]]
  data[[names(labels)[column]]] <- if (is.null(own)) {
    codes[, column]
  } else {
    factor(own[codes[, column] + 1], levels = own)
  }
}
last <- cumsum(contrast_sizes)
contrasts <- Map(function(to, size) contrast_rows[(to - size + 1):to, , drop = FALSE],
                 last, contrast_sizes)

# which of mcsim's columns each of R's is: names differ, values do not
position_of <- function(columns) {
  apply(columns, 2, function(own) {
    same <- which(apply(abs(X - own), 2, max) < 1e-8 * max(abs(own)))
    if (length(same) == 0) NA else same[1]
  })
}
positions <- position_of(model.matrix(fixed, data))

fixed_effects_of <- function(fit) {
  if (inherits(fit, "glmmTMB")) return(glmmTMB::fixef(fit)$cond)
  if (inherits(fit, "lme")) nlme::fixef(fit) else lme4::fixef(fit)
}

by_covariance <- function(fit, L, df) {
  beta <- fixed_effects_of(fit)
  V <- as.matrix(if (inherits(fit, "glmmTMB")) vcov(fit)$cond else vcov(fit))
  estimate <- drop(L %*% beta)
  variance <- L %*% V %*% t(L)
  if (nrow(L) == 1) {
    t <- estimate / sqrt(drop(variance))
    return(c(estimate, sqrt(drop(variance)), df, 2 * pt(-abs(t), df)))
  }
  ratio <- drop(estimate %*% solve(variance, estimate)) / nrow(L)
  c(ratio, NA, df, pf(ratio, nrow(L), df, lower.tail = FALSE))
}

by_lmertest <- function(fit, L, ddf) {
  if (nrow(L) == 1) {
    found <- lmerTest::contest1D(fit, drop(L), ddf = ddf)
    return(unlist(found[c("Estimate", "Std. Error", "df", "Pr(>|t|)")]))
  }
  found <- lmerTest::contestMD(fit, L, ddf = ddf)
  c(found[["F value"]], NA, found[["DenDF"]], found[["Pr(>F)"]])
}

test_contrast <- function(fit, L, df) {
  own <- positions[names(fixed_effects_of(fit))]
  if (anyNA(own)) stop("the fixed-effect columns of R are not those of mcsim")
  if (any(L[, -own] != 0)) return(rep(NA, 4))
  L <- L[, own, drop = FALSE]
  switch(df,
    containment = by_covariance(fit, L, min(fit$fixDF$X[colSums(L != 0) > 0])),
    z = by_covariance(fit, L, Inf),
    satterthwaite = by_lmertest(fit, L, "Satterthwaite"),
    `kenward-roger` = by_lmertest(fit, L, "Kenward-Roger")
  )
}

# of every level, outermost first, independent terms of a level one after the other
covariances_of <- function(fit) {
  if (inherits(fit, "lme")) {
    found <- nlme::pdMatrix(fit$modelStruct$reStruct)
    return(lapply(found[levels], function(own) as.matrix(own) * fit$sigma^2))
  }
  is_tmb <- inherits(fit, "glmmTMB")
  found <- if (is_tmb) glmmTMB::VarCorr(fit)$cond else lme4::VarCorr(fit)
  groups <- vapply(if (is_tmb) names(found) else names(fit@cnms), function(name) {
    own <- strsplit(gsub("`", "", name, fixed = TRUE), ":", fixed = TRUE)[[1]]
    paste(sort(own, method = "radix"), collapse = ":")
  }, "")
  lapply(levels, function(level) {
    blocks <- lapply(which(groups == level), function(term) as.matrix(found[[term]]))
    as.matrix(Matrix::bdiag(blocks))
  })
}

# of counts the dispersion, 1 where there is none
sigma_of <- function(fit) {
  if (inherits(fit, "lme")) return(fit$sigma)
  if (inherits(fit, "glmerMod") && grepl("Negative", family(fit)$family)) {
    return(lme4::getME(fit, "glmer.nb.theta"))
  }
  sigma(fit)
}

# lme raises an error; lmer returns what it has reached, with its doubts
doubts_about <- function(fit) {
  if (inherits(fit, "lme")) return("")
  if (inherits(fit, "glmmTMB")) {
    if (fit$fit$convergence != 0) return(fit$fit$message)
    return(if (isTRUE(fit$sdr$pdHess)) "" else "the Hessian is not positive definite")
  }
  found <- c(fit@optinfo$conv$lme4$messages, unlist(fit@optinfo$warnings))
  found <- unique(found[!grepl("singular", found)])  # a variance of zero is a valid result
  paste(found, collapse = "; ")
}

fit_response <- function(y) {
  data[[response]] <- y
  fit <- suppressMessages(suppressWarnings(
    eval(parse(text = call), list(data = data), globalenv())
  ))
  if ("lmerTest" %in% packages) fit <- lmerTest::as_lmerModLmerTest(fit)
  tests <- lapply(df, function(one) lapply(contrasts, function(L) test_contrast(fit, L, one)))
  found <- c(as.numeric(logLik(fit)), unlist(tests), unlist(covariances_of(fit)), sigma_of(fit))
  c(sprintf("%.17g", found), paste0("W", doubts_about(fit)))
}

results <- file.path(folder, "results.txt")
file.create(results)
for (replicate in seq_len(n_replicates)) {
  if (!tools::pskill(parent, 0)) {
    unlink(folder, recursive = TRUE)
    quit(status = 1)
  }
  found <- tryCatch(fit_response(responses[, replicate]), error = function(e) {
    paste0("E", conditionMessage(e))
  })
  line <- gsub("[\t\r\n]+", " ", found)
  cat(paste(line, collapse = "\t"), "\n", sep = "", file = results, append = TRUE)
}
