"""The largest sizes that are taken: a slip of the pen gets a message, not the machine's memory."""

MOST_ROWS = 2_000_000  # of a data set: to build it and its models takes about 1 kB per row
MOST_REPLICATES = 10_000_000  # of a condition: an MCSE is then 3,000 times smaller than an SD
MOST_RESAMPLES = 100_000  # of a bootstrap interval
MOST_PROCESSES = 1_024  # of a run
MOST_SHARDS = 10_000  # of a study
LARGEST, SMALLEST = 1e50, 1e-50  # sizes of numbers but 0: their fourth powers can be added up


def is_of_size(number: float) -> bool:
    """Whether a number is 0 or of a size that can be computed with; not one that is NaN."""
    return number == 0 or SMALLEST <= abs(number) <= LARGEST
