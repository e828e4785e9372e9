"""What is estimated, as a record; names of the columns of results; a value as a user writes it.

Names such as `animal.sd(x)` are written and read here alone: who wants to know what one of them
says reads it into a `Parameter` and asks that.
"""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from mcsim.errors import FormulaError
from mcsim.formula import read_column, same_column, written_name

FIXED, TERMS, RESIDUAL, TOTAL = "fixed", "terms", "residual", "total"  # components beside levels
ROW = ("condition", "method", "parameter")  # what tells a row of a table of results from all others
ESTIMATES = ("estimate", "std_error", "df", "ci_lower", "ci_upper", "p_value")  # of a replicate
LINK_WORDS = {
    "logit": "log odds",
    "probit": "normal quantile of the probability",
    "cloglog": "complementary log-log of the probability",
    "log": "logarithm of the mean",
}
SCALES = {"logit": "log odds", "probit": "probits", "cloglog": "log hazard", "log": "log rate"}
RATIOS = {"logit": "odds ratio", "cloglog": "hazard ratio", "log": "rate ratio"}  # exp() of effects
RISK_DIFFERENCE, RATE_RATIO, ODDS_RATIO = MARGINAL = (  # of means, averaged over a population
    "risk_difference", "rate_ratio", "odds_ratio",
)  # fmt: skip
EQUIVALENCE = ("equivalence_lower", "equivalence_upper")  # limits of an estimand
AT_TRUTH = ("shift", "true_se")  # of a fixed effect, where the truth is normal

MOST_BITS = 166  # of a whole number in decimal digits: Python writes some thousand at most
_SHORT = {"sd": "sd", "variance": "var", "correlation": "cor"}  # as names write a kind
_KINDS = {short: kind for kind, short in _SHORT.items()}
_CLOSING = {"[": "]", "`": "`", '"': '"'}  # within these a comma is part of a name
MOST_DIGITS, SHORT_DIGITS = 6, 4  # of a decimal number that is shown as it is; of another one
_DECIMAL = re.compile(r"(?<![\w.+-])-?\d+\.\d+(?:e[+-]?\d+)?(?![\w.])")
_OF_LEVEL = re.compile(r"(`[^`]+`|[\w.]+?)\.(?:(sd|var|cor)\((.+)\)|icc)")


@dataclass(frozen=True, eq=False)
class Parameter:
    """What a method estimates; equal to another whose name means the same.

    kind : fixed, term (several columns, an F or a likelihood-ratio test), sd, variance,
        correlation, icc (a level's share of the variance), sigma, dispersion (of counts), residual
        (correlations and ratios of SDs), one of MARGINAL, or own: what a scenario or a user's
        function calls by a name of its own
    component : as in the results: fixed, terms, residual, total, a level, or one of MARGINAL
    level : of the random effects; `total` for a sum over the levels; None for other kinds
    columns : the columns that it is about, as its name has them
    numerator_df : of a term
    """

    name: str
    kind: str
    component: str
    level: str | None = None
    columns: tuple[str, ...] = ()
    numerator_df: int | None = None

    @staticmethod
    def read(name: str, component: str | None = None) -> "Parameter":
        """The parameter with a name; `component` as the results have it, None: as the name says."""
        return _read(name, component)

    @staticmethod
    def of_level(kind: str, level: str, *columns: str) -> "Parameter":
        """An sd, variance, correlation or icc of a level's effects, or of their `total`."""
        return _of_level(kind, level, *columns)

    @classmethod
    def term(cls, name: str, numerator_df: int) -> "Parameter":
        """A test of a term that has several columns."""
        return cls(name, "term", TERMS, numerator_df=numerator_df)

    @classmethod
    def likelihood_ratio(cls, smaller: str, numerator_df: int) -> "Parameter":
        """The test of a model against a smaller one, that of the method called `smaller`."""
        return cls.term(f"LR({smaller})", numerator_df)

    @classmethod
    def sd_ratio(cls, factor: str, level: str) -> "Parameter":
        """The residuals' SD at a level of a factor, over that at its first level."""
        return cls.read(f"sd_ratio({written_name(factor)}[T.{level}])", RESIDUAL)

    @property
    def is_variance(self) -> bool:
        """Whether it says the same as an SD."""
        return self.kind == "variance"

    @property
    def is_scale(self) -> bool:
        """Whether it is an SD or a variance, which cannot be negative."""
        return self.kind in ("sd", "variance", "sigma")

    @property
    def limits(self) -> tuple[float, float]:
        """Between which its estimates are."""
        is_ratio = self.kind in ("term", "dispersion", RATE_RATIO, ODDS_RATIO)
        if self.is_scale or is_ratio or (self.component, self.name[:9]) == (RESIDUAL, "sd_ratio("):
            return 0.0, math.inf
        if self.kind == "icc":
            return 0.0, 1.0
        is_bound = self.kind in ("correlation", "residual", RISK_DIFFERENCE)
        return (-1.0, 1.0) if is_bound else (-math.inf, math.inf)

    def is_at_edge(self, truth: float | None) -> bool:
        """Whether a true value is the last that it can have, where intervals may have no place."""
        if self.kind == "correlation":
            return truth is not None and abs(truth) == 1.0
        return truth == 0.0 and (self.is_scale or self.kind == "icc")

    @property
    def is_derived(self) -> bool:
        """Whether it is made of several variances."""
        return self.kind in (("sd", "variance") if self.level == TOTAL else ("icc",))

    @property
    def as_sd(self) -> "Parameter":
        """The SD that a variance is the square of; anything else as it is."""
        return self._as("sd") if self.is_variance else self

    @property
    def as_variance(self) -> "Parameter":
        """The square of an SD of effects; anything else as it is."""
        return self._as("variance") if self.kind == "sd" else self

    def is_of_column(self, name: str) -> bool:
        """Whether it is about one column, which has this name or another of the same meaning."""
        return tuple(map(same_column, self.columns)) == (same_column(name),)

    def _as(self, kind: str) -> "Parameter":
        assert self.level is not None
        return Parameter.of_level(kind, self.level, *self.columns)

    @cached_property
    def _hash(self) -> int:
        return hash(self._meaning)

    @cached_property
    def _meaning(self) -> Hashable:
        """One spelling for all names of a parameter: a formula may order columns another way."""
        if self.level is not None:
            return self.kind, self.level, tuple(sorted(map(same_column, self.columns)))
        return self.kind == "term", same_column(self.name)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Parameter) and self._meaning == other._meaning

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.name


SIGMA = Parameter("sigma", "sigma", RESIDUAL)
DISPERSION = Parameter("dispersion", "dispersion", RESIDUAL)  # of a negative binomial


def no_effect(component: str) -> float:
    """What a parameter of a component is where there is no effect: 1 for a ratio, else 0."""
    return 1.0 if component in (RATE_RATIO, ODDS_RATIO) else 0.0


def link_scale(link: str) -> str:
    """`on the scale of the link, log odds; exp() of an effect is an odds ratio`."""
    ratio = RATIOS.get(link)
    article = "an" if link == "logit" else "a"
    return f"on the scale of the link, {SCALES[link]}" + (
        f"; exp() of an effect is {article} {ratio}" if ratio else ""
    )


@lru_cache(maxsize=4096)
def _of_level(kind: str, level: str, *columns: str) -> Parameter:
    written = written_name(level)
    if kind == "icc":
        return Parameter(f"{written}.icc", kind, level, level, ("Intercept",))
    return Parameter(f"{written}.{_SHORT[kind]}({','.join(columns)})", kind, level, level, columns)


@lru_cache(maxsize=4096)
def _read(name: str, component: str | None) -> Parameter:
    if name == SIGMA.name and component in (None, RESIDUAL):
        return SIGMA
    if name == DISPERSION.name and component == RESIDUAL:
        return DISPERSION
    if component in (TERMS, RESIDUAL):
        return Parameter(name, "term" if component == TERMS else "residual", component)
    match = _OF_LEVEL.fullmatch(name)
    level = match[1].strip("`") if match else None
    if match and level and component in (None, level):
        kind = _KINDS.get(match[2], "icc")
        columns = split_pair(match[3]) if kind == "correlation" else (match[3],)
        return replace(Parameter.of_level(kind, level, *columns), name=name)
    if component in MARGINAL:
        return Parameter(name, component, component)
    if _is_column(name):
        return Parameter(name, "fixed", component or FIXED, columns=(name,))
    return Parameter(name, "own", component or FIXED)


def _is_column(name: str) -> bool:
    try:
        read_column(name)
    except FormulaError:
        return False
    return True


def derived_names(levels: Iterable[str]) -> list[str]:
    """Names of the quantities that are made of several variances, for a message."""
    totals = [Parameter.of_level(kind, TOTAL, "COLUMN") for kind in ("sd", "variance")]
    return [one.name for one in (*totals, *(Parameter.of_level("icc", level) for level in levels))]


def split_pair(key: str) -> tuple[str, ...]:
    """Split `Intercept,x`, the key of a correlation, at the commas outside brackets and quotes."""
    pieces, depth, closing = [""], 0, ""
    for character in key:
        if closing or character in _CLOSING:
            closing = "" if character == closing else closing or _CLOSING[character]
        else:
            depth += (character == "(") - (character == ")")
        if character == "," and not (depth or closing):
            pieces.append("")
        else:
            pieces[-1] += character
    return tuple(piece.strip() for piece in pieces)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Swept keys without the tables that they lie in, where they then still differ."""
    short = [re.sub(r"^(design\.levels|design|truth)\.", "", key) for key in keys]
    return dict(zip(keys, short if len(set(short)) == len(short) else keys, strict=True))


def shown_label(label: str) -> str:
    """A condition's label, or a value in it, as it is shown: 2 for 2.0, 0.3 for 0.1 + 0.2."""
    return _DECIMAL.sub(lambda match: short_number(float(match[0])), label)


def short_number(value: float) -> str:
    """A number that was stated as it is, such as a truth; 0.5747 for one of more digits."""
    exact = f"{value:.12g}"  # without the rounding of arithmetic
    if len(re.sub(r"e.*|\D", "", exact).strip("0")) <= MOST_DIGITS:
        return exact
    return show_number(value, f".{max(SHORT_DIGITS, len(str(int(abs(value)))) + 1)}g")


def shown_labels(labels: Iterable[str]) -> dict[str, str]:
    """How labels, or values, are shown; those that would then look alike, as they are."""
    short = {label: shown_label(label) for label in labels}
    n_alike = Counter(short.values())
    return {label: one if n_alike[one] == 1 else label for label, one in short.items()}


def plain_label(label: str) -> str:
    """A condition's label, or the same with whole keys and other spaces, in one spelling."""
    tight = re.sub(r"\s*([=,:])\s*", r"\1", label.strip())
    return re.sub(r"(^|,)(design\.levels|design|truth)\.", r"\1", tight)


def show_value(value: object) -> str:
    """Value as a user would write it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {show_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show_value, value)) + "]"
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return hex(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def show_number(value: float, form: str) -> str:
    """A number in a format such as `.4g`; with more digits where it would read as 1 and is less."""
    text = format(value, form)
    is_lost = text in ("1", "-1") and abs(value) < 1.0 and form.endswith("g")
    return f"{value:.9g}" if is_lost else text


def show_swept(value: object) -> str:
    """A swept value as the labels of conditions have it: text without quotes."""
    return value if isinstance(value, str) else show_value(value)


def condition_in_words(values: Mapping[str, object]) -> str:
    """`animal.count = 5, sigma = 0.5` from the swept values; empty where there are none."""
    short = short_names(list(values))
    return ", ".join(f"{short[key]} = {show_swept(value)}" for key, value in values.items())
