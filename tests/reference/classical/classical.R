# Classical data sets of nlme and lme4 and their fits: Rscript classical.R, in this folder.
# Writes <name>.csv and classical.json. The best log-likelihood of three optimisers and two starts
# counts; df of lmerTest and pbkrtest, and of nlme where it can fit the model.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(jsonlite)})

plain <- function(d) {  # ordered and class attributes gone, rows in the order of the package
  d <- as.data.frame(d)
  for (name in names(d)) if (is.factor(d[[name]])) d[[name]] <- as.character(d[[name]])
  d[vapply(d, is.numeric, NA) | vapply(d, is.character, NA)]
}
get_data <- function(name, package) { e <- new.env(); data(list = name, package = package, envir = e); plain(e[[name]]) }

models <- list(
  # name, package, formula (lme4), random part for nlme or NA
  c("Orthodont", "nlme", "distance ~ age * Sex + (age | Subject)", "~ age | Subject"),
  c("Orthodont", "nlme", "distance ~ age + Sex + (1 | Subject)", "~ 1 | Subject"),
  c("Oxboys", "nlme", "height ~ age + (age | Subject)", "~ age | Subject"),
  c("Oxboys", "nlme", "height ~ age + (1 | Subject)", "~ 1 | Subject"),
  c("Pixel", "nlme", "pixel ~ day + (1 | Dog/Side)", "~ 1 | Dog/Side"),
  c("Pixel", "nlme", "pixel ~ day + I(day**2) + (day | Dog) + (1 | Dog:Side)", NA),
  c("Machines", "nlme", "score ~ Machine + (1 | Worker/Machine)", "~ 1 | Worker/Machine"),
  c("Machines", "nlme", "score ~ Machine + (1 | Worker)", "~ 1 | Worker"),
  c("Rail", "nlme", "travel ~ 1 + (1 | Rail)", "~ 1 | Rail"),
  c("Oats", "nlme", "yield ~ nitro + (1 | Block/Variety)", "~ 1 | Block/Variety"),
  c("Oats", "nlme", "yield ~ Variety * nitro + (1 | Block/Variety)", "~ 1 | Block/Variety"),
  c("ergoStool", "nlme", "effort ~ Type + (1 | Subject)", "~ 1 | Subject"),
  c("BodyWeight", "nlme", "weight ~ Time * Diet + (Time | Rat)", "~ Time | Rat"),
  c("BodyWeight", "nlme", "weight ~ Time + Diet + (1 | Rat)", "~ 1 | Rat"),
  c("Alfalfa", "nlme", "Yield ~ Date * Variety + (1 | Block/Variety)", "~ 1 | Block/Variety"),
  c("Cefamandole", "nlme", "conc ~ Time + (1 | Subject)", "~ 1 | Subject"),
  c("Dialyzer", "nlme", "rate ~ pressure + I(pressure**2) + QB + (pressure | Subject)", "~ pressure | Subject"),
  c("Fatigue", "nlme", "relLength ~ cycles + (cycles | Path)", "~ cycles | Path"),
  c("Gasoline", "nlme", "yield ~ endpoint + vapor + (1 | Sample)", "~ 1 | Sample"),
  c("Glucose2", "nlme", "glucose ~ Time + I(Time**2) + (1 | Subject/Date)", "~ 1 | Subject/Date"),
  c("Gun", "nlme", "rounds ~ Method + (1 | Team)", "~ 1 | Team"),
  c("IGF", "nlme", "conc ~ age + (age | Lot)", "~ age | Lot"),
  c("Milk", "nlme", "protein ~ Time + Diet + (1 | Cow)", "~ 1 | Cow"),
  c("Muscle", "nlme", "length ~ conc + (1 | Strip)", "~ 1 | Strip"),
  c("Ovary", "nlme", "follicles ~ Time + I(Time**2) + (Time | Mare)", "~ Time | Mare"),
  c("Oxide", "nlme", "Thickness ~ 1 + (1 | Lot/Wafer)", "~ 1 | Lot/Wafer"),
  c("Oxide", "nlme", "Thickness ~ Source + (1 | Lot/Wafer)", "~ 1 | Lot/Wafer"),
  c("PBG", "nlme", "deltaBP ~ dose + Treatment + (1 | Rabbit)", "~ 1 | Rabbit"),
  c("RatPupWeight", "nlme", "weight ~ sex + Treatment + Lsize + (1 | Litter)", "~ 1 | Litter"),
  c("Relaxin", "nlme", "cAMP ~ conc + (1 | Run)", "~ 1 | Run"),
  c("Soybean", "nlme", "weight ~ Time + Variety + (Time | Plot)", "~ Time | Plot"),
  c("Spruce", "nlme", "logSize ~ days + (days | plot/Tree)", "~ days | plot/Tree"),
  c("Spruce", "nlme", "logSize ~ days + (1 | plot/Tree)", "~ 1 | plot/Tree"),
  c("Tetracycline1", "nlme", "conc ~ Time + Formulation + (1 | Subject/Formulation)", "~ 1 | Subject/Formulation"),
  c("Wafer", "nlme", "current ~ voltage + I(voltage**2) + (voltage | Wafer/Site)", "~ voltage | Wafer/Site"),
  c("Wheat", "nlme", "DryMatter ~ Moisture * fertilizer + (1 | Tray)", "~ 1 | Tray"),
  c("Wheat2", "nlme", "yield ~ variety + (1 | Block)", "~ 1 | Block"),
  c("bdf", "nlme", "langPOST ~ IQ.ver.cen + avg.IQ.ver.cen + (IQ.ver.cen | schoolNR)", "~ IQ.ver.cen | schoolNR"),
  c("Earthquake", "nlme", "accel ~ Richter + distance + (1 | Quake)", "~ 1 | Quake"),
  c("Dyestuff", "lme4", "Yield ~ 1 + (1 | Batch)", "~ 1 | Batch"),
  c("Dyestuff2", "lme4", "Yield ~ 1 + (1 | Batch)", "~ 1 | Batch"),
  c("Pastes", "lme4", "strength ~ 1 + (1 | batch/cask)", "~ 1 | batch/cask"),
  c("sleepstudy", "lme4", "Reaction ~ Days + (Days | Subject)", "~ Days | Subject"),
  c("sleepstudy", "lme4", "Reaction ~ Days + (Days || Subject)", NA),
  c("cake", "lme4", "angle ~ recipe * temperature + (1 | recipe:replicate)", NA)
)

control <- function(optimizer) lmerControl(optimizer = optimizer, calc.derivs = FALSE, check.conv.singular = "ignore",
  optCtrl = if (optimizer == "bobyqa") list(rhoend = 1e-9, maxfun = 1e5) else list())
best <- function(f, d, REML) {
  fits <- list()
  for (optimizer in c("bobyqa", "Nelder_Mead", "nloptwrap"))
    fits <- c(fits, tryCatch(suppressMessages(suppressWarnings(
      eval(bquote(lmerTest::lmer(.(f), d, REML = .(REML), control = control(.(optimizer))))))), error = function(e) NULL))
  for (one in fits[1]) {  # once more from where the first ended, turned a little
    theta <- getME(one, "theta")
    fits <- c(fits, tryCatch(suppressMessages(suppressWarnings(
      eval(bquote(lmerTest::lmer(.(f), d, REML = .(REML), start = .(theta + 0.1), control = control("bobyqa")))))), error = function(e) NULL))
  }
  fits[[which.max(vapply(fits, function(m) as.numeric(logLik(m)), 0))]]
}

found <- list()
for (one in models) {
  name <- one[1]; d <- get_data(name, one[2])
  f <- as.formula(gsub("**", "^", one[3], fixed = TRUE))
  used <- all.vars(f)
  grouping <- unique(unlist(lapply(findbars(f), function(b) all.vars(b[[3]]))))
  for (g in grouping) d[[g]] <- paste0(substr(g, 1, 1), d[[g]])
  d <- d[complete.cases(d[used]), used]
  write.csv(d, paste0(name, ".csv"), row.names = FALSE)
  d <- read.csv(paste0(name, ".csv"), stringsAsFactors = TRUE)
  reml <- best(f, d, TRUE); ml <- best(f, d, FALSE)
  table <- coef(summary(reml))
  singular <- isSingular(reml, tol = 1e-4)
  kr <- NULL
  if (!singular && nrow(d) <= 1000) {
    V <- vcovAdj(reml); p <- length(fixef(reml))
    kr <- list(std_error = unname(sqrt(diag(as.matrix(V)))),
               df = vapply(seq_len(p), function(i) { L <- rep(0, p); L[i] <- 1; get_Lb_ddf(reml, L) }, 0))
  }
  of_nlme <- NULL
  if (!is.na(one[4])) {
    fixed <- nobars(f)
    m <- tryCatch(suppressWarnings(nlme::lme(fixed, d, random = as.formula(one[4]),
      control = nlme::lmeControl(opt = "optim", maxIter = 500, msMaxIter = 2000, tolerance = 1e-10, msTol = 1e-12, returnObject = TRUE))),
      error = function(e) NULL)
    if (!is.null(m)) of_nlme <- list(loglik = as.numeric(logLik(m)), df = unname(summary(m)$tTable[, "DF"]))
  }
  found[[length(found) + 1]] <- list(
    data = name, formula = one[3], n = nrow(d), reml = as.numeric(logLik(reml)), ml = as.numeric(logLik(ml)),
    singular = singular, names = rownames(table), estimate = unname(table[, "Estimate"]),
    std_error = unname(table[, "Std. Error"]), satterthwaite = unname(table[, "df"]),
    kenward_roger = kr, nlme = of_nlme, sigma = sigma(reml),
    sd = unname(as.data.frame(VarCorr(reml), order = "lower.tri")$sdcor))
  cat(name, one[3], nrow(d), as.numeric(logLik(reml)), singular, "\n")
}
write_json(list(made_by = "Rscript classical.R", versions = list(R = as.character(getRversion()),
  lme4 = as.character(packageVersion("lme4")), lmerTest = as.character(packageVersion("lmerTest")),
  pbkrtest = as.character(packageVersion("pbkrtest")), nlme = as.character(packageVersion("nlme"))),
  fits = found), "classical.json", digits = 12, auto_unbox = TRUE, null = "null", pretty = TRUE)
