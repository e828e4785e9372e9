"""What a table has, for those who have not written a formula yet."""

from pathlib import Path

from mcsim.formula import is_name, written_name
from mcsim.table_file import as_numbers, read_table_file, with_points

MOST_LEVELS = 6  # of a factor of a suggestion: labels of units are more
MOST_SHOWN = 12  # columns of a kind


def formula_wanted(path: Path) -> str:
    """Say that a formula is missing, which columns there are, and one that they could make.

    Raises
    ------
    DataError
        The table cannot be read.
    """
    file = read_table_file(path)
    numbers: dict[str, int] = {}
    labels: dict[str, int] = {}
    for name in (one for one in file.frame.columns if one and is_name(one)):
        values = with_points(file.frame[name].dropna(), file.decimal)
        is_code = values.astype(str).str.match("0[0-9]").any()  # as 01, 02, 03
        if as_numbers(values) is not None and not is_code:
            numbers[written_name(name)] = values.nunique()
        else:
            labels[written_name(name)] = values.nunique()
    has = [f"numbers: {_shown([*numbers])}"] if numbers else []
    counted = [f"{name} ({n} labels)" for name, n in labels.items()]
    has += [f"text: {_shown(counted)}"] if labels else []
    wanted = f"--from-data needs --formula 'RESPONSE ~ EFFECTS + (1 | UNITS)'. {path} has"
    return f"{wanted} {'; '.join(has) or 'no columns'}.{_suggestion(numbers, labels)}"


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _suggestion(numbers: dict[str, int], labels: dict[str, int]) -> str:
    """A formula whose response has the most values, if there are units."""
    units = sorted((name for name, n in labels.items() if n > MOST_LEVELS), key=labels.__getitem__)
    if not numbers or not units:
        return ""
    response = max(numbers, key=numbers.__getitem__)
    covariates = [name for name in numbers if name != response]
    factors = [name for name, n in labels.items() if 1 < n <= MOST_LEVELS]
    effects = " * ".join([*factors[:1], *covariates[:1]]) or "1"
    return f" Perhaps: --formula '{response} ~ {effects} + (1 | {'/'.join(units[:2])})'"
