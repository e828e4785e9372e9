# The tables of this folder as R reads them, and lme4's fits: Rscript fit_tables.R, in this folder.
# Writes fits.json: REML log-likelihood of lmer, nobs(), and the fixed effects.
suppressMessages({library(lme4); library(jsonlite)})
options(contrasts = c("contr.treatment", "contr.poly"))

csv <- function(file, ...) read.csv(file, check.names = FALSE, stringsAsFactors = TRUE, ...)
csv2 <- function(file, ...) read.csv2(file, check.names = FALSE, stringsAsFactors = TRUE, ...)
tab <- function(file, ...) read.delim(file, check.names = FALSE, stringsAsFactors = TRUE, ...)

# file, how R reads it, formula for mcsim, formula for R where it is another one
fits <- list(
  c("yield.csv", "csv(f)", "yield ~ nitro + (1 | Block/Variety)"),
  c("dots.csv", "csv(f)", ".len ~ age * Sex + (age | Mouse.ID)"),
  c("blanks.csv", "csv(f)", "`Distance (um)` ~ `Age, years` * Sex + (`Age, years` | `Mouse ID`)"),
  c("words.csv", "csv(f)", "yield ~ lambda * class + (lambda | None)"),
  c("letters.csv", "csv(f, encoding = 'UTF-8')", "distance ~ âge + Sex + (1 | `Sujet é`)"),
  c("na.csv", "csv(f)", "distance ~ age * Sex + (1 | Subject)"),
  c("na.csv", "csv(f)", "distance ~ age + (1 | Subject)"),
  c("empty.csv", "csv(f, na.strings = '')", "distance ~ age * Sex + (1 | Subject)"),
  c("points.csv", "csv(f, na.strings = '.')", "distance ~ age * Sex + (1 | Subject)"),
  c("errors.csv", "csv(f, na.strings = c('#N/A', 'NaN'))", "distance ~ age * Sex + (1 | Subject)"),
  c("semicolons.csv", "csv2(f)", "`Distance (um)` ~ `Age, years` * Sex + (1 | `Mouse ID`)"),
  c("semicolons_points.csv", "csv2(f, dec = '.')", "`Distance (um)` ~ Sex + (1 | `Mouse ID`)"),
  c("semicolons_na.csv", "csv2(f, dec = '.')", "Reaction ~ Days + (Days | Subject)"),
  c("tabs.tsv", "tab(f)", "`Distance (um)` ~ `Age, years` * Sex + (1 | `Mouse ID`)"),
  c("tabs_commas.txt", "tab(f, dec = ',')", "Reaction ~ Days + (Days | Subject)"),
  c("utf16.txt", "tab(f, fileEncoding = 'UTF-16')", "`Distance (um)` ~ Sex + (1 | `Mouse ID`)"),
  c("utf16_commas.csv", "csv2(f, fileEncoding = 'UTF-16LE')", "Reaction ~ Days + (1 | Subject)"),
  c("mark.csv", "csv(f, fileEncoding = 'UTF-8-BOM')", "yield ~ Variety * nitro + (1 | Block/Variety)"),
  c("windows.csv", "csv2(f, fileEncoding = 'CP1252')", "distance ~ age + (age | `Sujet é`)"),
  c("excel_line.csv", "csv2(f, skip = 1)", "Reaction ~ Days + (1 | Subject)"),
  c("trailing.csv", "csv(f)[1:4]", "distance ~ age + Sex + (1 | Subject)"),
  c("quoted.csv", "csv(f)", "distance ~ age + Sex + (1 | Subject)"),
  c("row_names.csv", "csv(f, row.names = 1)", "distance ~ age + Sex + (1 | Subject)"),
  c("notes.csv", "csv(f)", "pixel ~ day + (1 | Dog/Side)"),
  c("loose_blanks.csv", "csv(f, strip.white = TRUE)", "distance ~ age + Sex + (1 | Subject)"),
  c("long_ids.csv", "csv(f, colClasses = c(Subject = 'character'))", "distance ~ age + (1 | Subject)"),
  c("logical.csv", "csv(f)", "distance ~ age * Sex + (1 | Subject)"),
  c("weeks.csv", "csv(f)", "distance ~ factor(week) * Sex + (1 | Subject)"),
  c("weeks.csv", "csv(f)", "distance ~ C(week) + (1 | Subject)", "distance ~ factor(week) + (1 | Subject)"),
  c("times.csv", "csv(f)", "Reaction ~ Days + I(Days^2) + (Days | Subject)"),
  c("times.csv", "csv(f)", "log(Reaction) ~ Days + (Days | Subject)"),
  c("times.csv", "csv(f)", "sqrt(Reaction) ~ Days + (1 | Subject)"),
  c("times.csv", "csv(f)", "Reaction ~ Days + offset(load) + (1 | Subject)"),
  c("times.csv", "csv(f)", "log(Reaction / 100) ~ log(Days + 1) + offset(0.01 * load) + (1 | Subject)"),
  c("times.csv", "csv(f)", "Reaction ~ poly(Days, 2) + (1 | Subject)"),
  c("times.csv", "csv(f)", "Reaction ~ poly(Days, 2, raw = TRUE) + (1 | Subject)"),
  c("times.csv", "csv(f)", "Reaction ~ scale(Days) + (1 | Subject)"),
  c("workers.csv", "csv(f)", "score ~ C(Machine, Treatment('B')) + (1 | Worker/Machine)",
    "score ~ relevel(Machine, 'B') + (1 | Worker/Machine)"),
  c("workers.csv", "csv(f)", "score ~ C(Machine, contr.sum) + (1 | Worker)"),
  c("workers.csv", "csv(f)", "score ~ C(Machine, Helmert) + (1 | Worker)",
    "score ~ C(Machine, contr.helmert) + (1 | Worker)"),
  c("workers.csv", "csv(f)", "score ~ 1 + (1 | Machine:Worker) + (1 | Worker)"),
  c("sides.csv", "csv(f)", "pixel ~ day + (1 | Dog) + (1 | Side:Dog)"),
  c("sides.csv", "csv(f)", "pixel ~ day + (day | Dog) + (1 | Side %in% Dog)",
    "pixel ~ day + (day | Dog) + (1 | Dog:Side)"),
  c("yield.csv", "csv(f)", "yield ~ Variety + Variety %in% nitro + (1 | Block)",
    "yield ~ Variety + Variety:nitro + (1 | Block)"),
  c("sheet.xlsx", "tab('tabs.tsv')", "`Distance (um)` ~ `Age, years` * Sex + (1 | `Mouse ID`)")
)

optima <- function(formula, d) {  # the best of three optimisers
  controls <- list(
    lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e5)),
    lmerControl(optimizer = "Nelder_Mead", optCtrl = list(maxfun = 1e5)),
    lmerControl(optimizer = "nloptwrap", optCtrl = list(maxeval = 1e5, xtol_abs = 1e-10, ftol_abs = 1e-10))
  )
  found <- lapply(controls, function(one) suppressWarnings(suppressMessages(lmer(formula, d, control = one))))
  found[[which.max(vapply(found, function(one) as.numeric(logLik(one)), 0))]]
}

results <- lapply(fits, function(one) {
  f <- one[1]
  fit <- optima(as.formula(one[length(one)]), eval(parse(text = one[2])))
  list(file = f, read = one[2], formula = one[3], in_r = one[length(one)],
       reml = as.numeric(logLik(fit)), n_obs = nobs(fit), fixed = unname(fixef(fit)))
})
writeLines(toJSON(list(made_by = paste("R", getRversion(), "lme4", packageVersion("lme4")),
                       fits = results), auto_unbox = TRUE, digits = 13, pretty = TRUE), "fits.json")
