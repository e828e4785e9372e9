"""What a scenario may estimate beside the parameters of its models."""

from pydantic import Field

from mcsim.scenario.values import EstimandName, Interval, Number, Record, TermTest, Text


class EstimandSpec(Record):
    """A quantity to estimate beside the parameters of the models."""

    name: EstimandName = Field(
        description="name in the results; without `fixed` one of total.sd(COLUMN), "
        "total.var(COLUMN), LEVEL.icc"
    )
    fixed: dict[str, Number] | None = Field(
        None, description="weights of fixed effects, whose sum is the estimand"
    )
    term: Text | None = Field(
        None, description="term of the fixed effects, such as diet or diet:x, to test by F"
    )
    test: TermTest | None = Field(
        None,
        description='of the term: "type 3" (the default; given all other terms, averaged over the '
        'levels of other factors) or "type 2" (given all terms that do not contain it)',
    )
    equivalence: Interval | None = Field(
        None,
        description="of a sum: limits within which it counts as no effect, [-0.1, 0.1]; how often "
        "two one-sided tests show that is the measure `equivalence`",
    )
