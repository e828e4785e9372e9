"""What a study does, in words ordered as ADEMP, from its scenario.

Aims, data-generating mechanism, estimands, methods, performance measures: Morris, White &
Crowther (2019), section 3.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import compress
from typing import Any, NamedTuple

from mcsim.names import DISPERSION, LINK_WORDS, SIGMA, Parameter, show_value, shown_label
from mcsim.report.words import Name, Sentence, commas, listed, say
from mcsim.scenario.design import CovariateSpec, DesignSpec, TableDesignSpec
from mcsim.scenario.families import link_of
from mcsim.scenario.records import Scenario
from mcsim.scenario.truth import RandomSpec, TruthSpec
from mcsim.summary.records import Record, unique
from mcsim.summary.selection import Shown
from mcsim.summary.text import truth_as

FACTOR = "Factor {name} ({levels}) differs between {units}; {reference} is the reference."
ROWS = "Units, factors and covariates are those of the table {file}."
MAX_DESIGNS = 24  # that are spelt out
MAX_IN_PARAGRAPH = 3  # designs of a paragraph for a paper; of more, the first and the last
UNKNOWN = "the numbers of units are known after the next mcsim run of this study"
# keys of the scenario's tables that have sentences of their own
DESIGN_KEYS = ("response", "table", "factors", "levels", "covariates", "observations", "redraw")
REDRAWN = "These numbers of units are one draw: every data set has its own."
TRUTH_KEYS = (
    "family", "link", "trials", "dispersion", "zero_inflation",
    "sigma", "fixed", "random", "residual",
)  # fmt: skip
FAMILY_WORDS = {
    "binomial": "successes, binomial",
    "poisson": "counts, Poisson",
    "nbinom": "counts, negative binomial",
}
EFFECT_KEYS = ("sd", "variance", "correlation")
METHOD_KEYS = ("name", "formula", "estimator", "df", "interval", "resamples")
KINDS = {
    "sd": "SD",
    "variance": "variance",
    "correlation": "correlation",
    "icc": "share of the variance",
}
COMPARED = {
    "risk_difference": "difference of mean probabilities",
    "rate_ratio": "ratio of mean rates",
    "odds_ratio": "odds ratio of mean probabilities",
}
COVARIATES = {
    "grid": "evenly spaced from {0:g} to {1:g} in every innermost unit",
    "uniform": "drawn uniformly between {0:g} and {1:g}",
    "normal": "drawn from a normal distribution with mean {0:g} and SD {1:g}",
}
OF_UNITS = "evenly spaced from {0:g} to {1:g}"
MEASURES = (
    ("bias", "mean of the estimates less the truth"),
    ("RMSE", "root mean squared error: how far off a single estimate is"),
    ("coverage", "share of the {nominal} intervals that hold the truth"),
    ("rejected", "share of the tests at the {level} level that reject: power, or type I error"
                 " where the truth is 0 (of a ratio 1)"),
    ("standard errors", "mean standard error that a method reports, against the SD of its"
                        " estimates, the empirical SE"),
    ("at 0", "share of the estimates of an SD that are exactly 0"),
)  # fmt: skip


class Protocol(NamedTuple):
    """Sentences and tables (a header first) of the five parts; measures and what they are.

    designs : units and rows of the conditions, a part of the mechanism
    """

    aims: Sentence
    designs: list[Sentence]
    mechanism: list[Sentence]
    estimands: list[list[str | Sentence]]
    methods: list[list[str | Sentence]]
    measures: list[tuple[str, str]]

    def paragraph(self, counts: str, errors: str) -> Sentence:
        """The five parts as sentences to copy into a paper.

        counts : of data sets and failures; errors : how large the Monte Carlo errors are
        """
        start, *rest = self.aims
        pieces: list[str] = [f"We ran a simulation study t{start[1:]}", *rest]
        ends = (
            self.designs
            if len(self.designs) <= MAX_IN_PARAGRAPH
            else self.designs[:: len(self.designs) - 1]
        )
        for sentence in (*ends, *self.mechanism):
            pieces += [" ", *sentence]
        header, *rows = self.methods
        for names, *cells in rows:
            said = "; ".join(
                f"{word} {cell}".removeprefix("other ")  # which names its own keys
                for word, cell in zip(header[1:], cells, strict=True)
                if cell
            )
            pieces += [" Method ", *names, f": {said}."]
        measures = ", ".join(name for name, _ in self.measures)
        return (*pieces, f" Measures of performance: {measures}. {counts} {errors}")


def protocol(scenario: Scenario, shown: Shown, designs: Mapping[str, str | None]) -> Protocol:
    """The five parts; the estimands are those that the summary has.

    Parameters
    ----------
    designs : in words, by condition; None in folders of format 2
    """
    nominal, level = 100 * scenario.confidence, 100 - 100 * scenario.confidence
    return Protocol(
        aims=_aims(scenario),
        designs=_designs(designs),
        mechanism=_mechanism(scenario),
        estimands=_estimands(shown),
        methods=_methods(scenario),
        measures=[
            (name, meaning.format(nominal=f"{nominal:g}%", level=f"{level:g}%"))
            for name, meaning in MEASURES
        ],
    )


def _aims(scenario: Scenario) -> Sentence:
    names = [name for spec in scenario.methods for name in spec.result_names]
    subject = f"{len(names)} methods recover" if len(names) > 1 else "one method recovers"
    pieces = [f"To find out how well {subject} the parameters that the data were made from"]
    for key, swept in scenario.sweep.items():
        joint = ", when " if len(pieces) == 1 else " and "
        values = shown_label(", ".join(map(show_value, swept)))
        pieces += [joint, Name(key), f" is {values}"]
    n_varied = sum(len(swept) > 1 for swept in scenario.sweep.values())
    return (*pieces, ", in all combinations." if n_varied > 1 else ".")


def _mechanism(scenario: Scenario) -> list[Sentence]:
    design, truth = scenario.design, scenario.truth.in_sds()
    lines: list[Sentence] = [(REDRAWN,)] if design.redraw else []
    lines += _variables(design)
    lines += _of_response(design.response, truth)
    for level, effects in truth.random.items():
        lines.append(("Effects of ", Name(level), ": ", *_effects(effects), "."))
    if truth.sigma is not None:
        lines.append((f"Residuals: SD {truth.sigma:g}{_others(truth.residual)}.",))
    others = _others(design, DESIGN_KEYS) + _others(truth, TRUTH_KEYS)
    lines += [(f"{others.removeprefix('; ')}.",)] if others else []
    if any(key.startswith("truth.") for key in scenario.sweep):
        lines.append(("What is swept takes the place of these values.",))
    return [*lines, (f"{scenario.replicates:,} data sets per condition, seed {scenario.seed}.",)]


def _of_response(response: str, truth: TruthSpec) -> Iterator[Sentence]:
    """Its mean, and how it varies around that where it is not normal."""
    if truth.sigma is not None:
        yield ("Mean of ", Name(response), ": ", *_sum(truth.fixed), ".")
        return
    link = link_of(truth.family, truth.link)
    pieces: list[str | Name] = [Name(response), f": {FAMILY_WORDS[truth.family]}"]
    if truth.family == "binomial":
        is_one = truth.trials in (None, 1)
        pieces += [", one trial"] if is_one else [" with ", Name(str(truth.trials)), " trials"]
    if truth.dispersion is not None:
        variance = f"mean + mean² / {truth.dispersion:g}"
        pieces.append(f", with variance {variance}")
    if truth.zero_inflation is not None:
        pieces.append(f"; {100 * truth.zero_inflation:g}% are 0 whatever their mean")
    yield (*pieces, ".")
    words = LINK_WORDS[link]
    yield (
        f"{words[0].upper()}{words[1:]} of an observation: ",
        *_sum(truth.fixed),
        ", and random effects.",
    )


def _variables(design: DesignSpec | TableDesignSpec) -> Iterator[Sentence]:
    """Factors and covariates."""
    if isinstance(design, TableDesignSpec):
        yield say(ROWS, file=Name(design.table))
        return
    for name, levels in design.factor_levels.items():
        units, reference = _between(design, design.factor_places[name]), Name(levels[0])
        words: dict[str, str | Sentence] = {"levels": listed(levels), "units": units}
        yield say(FACTOR, name=Name(name), reference=reference, **words)
    for name, spec in design.covariates.items():
        yield (Name(name), ": ", *_covariate(spec), ".")


def _between(design: DesignSpec, of: str | tuple[str, str]) -> Sentence:
    """What a factor differs between."""
    if not isinstance(of, str):
        return ("cells of ", *listed(of), " as a Latin square")
    if of == design.places[-1]:
        return ("observations of one unit of ", Name(design.level_names[-1]))
    return ("units of ", Name(of))


def _sum(coefficients: Mapping[str, float]) -> Sentence:
    """A weighted sum of columns."""
    pieces: list[str] = []
    for name, value in coefficients.items():
        if value:
            sign = " + " if value > 0 else " - "
            sign = sign if pieces else sign.strip(" +") + " " * (value < 0)
            pieces += [f"{sign}{abs(value):g} \N{MULTIPLICATION SIGN} ", Name(name)]
    return tuple(pieces) or ("0",)


def _designs(designs: Mapping[str, str | None]) -> list[Sentence]:
    """Units and rows, conditions with the same ones together."""
    labels: dict[str, list[str]] = {}
    for label, words in list(designs.items())[:MAX_DESIGNS]:
        labels.setdefault(words or UNKNOWN, []).append(shown_label(label))
    lines: list[Sentence] = [
        (*(listed(same) if len(labels) > 1 else ("Every data set",)), f": {words}.")
        for words, same in labels.items()
    ]
    n_more = len(designs) - MAX_DESIGNS
    return lines + ([(f"{n_more} more conditions.",)] if n_more > 0 else [])


def _covariate(spec: CovariateSpec) -> Sentence:
    given = {key: value for key in COVARIATES if (value := getattr(spec, key)) is not None}
    level = (", one value per unit of ", Name(spec.level)) if spec.level else ()
    for key, ends in given.items():
        words = OF_UNITS if spec.level and key == "grid" else COVARIATES[key]
        return (words.format(*ends), *level)
    if spec.starts is not None:
        of, along = Name(spec.starts.level), Name(spec.starts.along)
        return ("1 once the unit of ", of, " has started, a step of ", along, " after the other")
    return (f"{show_value(spec.values)} in every innermost unit",)


def _effects(spec: RandomSpec) -> Sentence:
    pieces: list[str] = []
    for name, value in spec.standard_deviations.items():
        pieces += [f"{', ' if pieces else 'SD '}{value:g} of ", Name(name)]
    if len(spec.columns) > 1:
        given = spec.correlation
        shown = f"{given:g}" if isinstance(given, float) else show_value(given)
        pieces.append(f"; correlation {shown}")
    return (*pieces, _others(spec, EFFECT_KEYS))


def _others(spec: Any, known: Collection[str] = ()) -> str:
    """What else a table of the scenario states, as it stands there."""
    if spec is None:
        return ""
    stated = spec.model_dump(exclude_defaults=True, exclude=set(known))
    return "".join(f"; {key} {show_value(value)}" for key, value in stated.items())


def _estimands(shown: Shown) -> list[list[str | Sentence]]:
    rows: list[list[str | Sentence]] = [["parameter", "kind", "truth"]]
    for name in shown.parameters:
        own = [record for record in shown.records if record["parameter"] == name]
        known = [record for record in own if record["truth"] is not None]
        truths = unique(truth_as(record["truth"]) for record in known or own)
        scale = f", {own[0]['scale']}" if own[0].get("scale") else ""
        rows.append([Name(name), _kind(own[0]) + scale, ", ".join(truths)])
    return rows


def _kind(record: Record) -> str:
    component = record["component"]
    words = {"fixed": "fixed effect", "terms": "test of a term"} | COMPARED
    parameter = Parameter.read(record["parameter"], component)
    if parameter == DISPERSION:
        return "dispersion of the counts"
    if parameter.kind in ("sigma", "residual"):
        return _of_residuals(parameter.name)
    return words.get(component) or f"{KINDS[parameter.kind]}, {component}"


def _of_residuals(name: str) -> str:
    if name == SIGMA.name:
        return "SD of the residuals"
    return f"{'ratio of SDs' if name.startswith('sd_ratio') else 'correlation'} of the residuals"


def _methods(scenario: Scenario) -> list[list[str | Sentence]]:
    header: list[str | Sentence] = [*("method", "formula", "estimator", "df", "intervals", "other")]
    rows: list[list[str | Sentence]] = []
    for spec in scenario.methods:
        stated: Mapping[str, Any] = spec.model_dump(exclude_defaults=True, exclude=set(METHOD_KEYS))
        other = "; ".join(f"{key} = {show_value(value)}" for key, value in stated.items() if value)
        names = commas(spec.result_names)
        rows.append([names, spec.formula, spec.estimator, ", ".join(spec.df), spec.interval, other])
    is_used = [any(column) for column in zip(*rows, strict=True)]
    return [list(compress(row, is_used)) for row in (header, *rows)]
