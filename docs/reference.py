"""Writes docs/reference.md from the commands, the scenario's schema and the measures.

python docs/reference.py
"""

import inspect
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from mcsim.cli.main import main
from mcsim.measures import MEASURES
from mcsim.results.store import ESTIMATES_SCHEMA, FITS_SCHEMA
from mcsim.scenario.records import scenario_schema
from mcsim.study.conditions_table import SCHEMA as CONDITIONS_SCHEMA

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

Written by `python docs/reference.py` from the program itself; a test compares.
"""
MEANINGS = {
    "condition": "label of the condition, `all` without a sweep",
    "replicate": "number of the data set, from 1",
    "method": "name of the method; with several df `name/df`",
    "parameter": "what is estimated, such as `x`, `animal.sd(x)`, `sigma`",
    "component": "`fixed`, `terms` (F tests), `residual`, `total`, the name of a level, or "
    "`risk_difference`, `rate_ratio`, `odds_ratio`",
    "estimate": "the estimate; F or chi-squared of a test of several columns",
    "std_error": "its standard error",
    "df": "degrees of freedom; the denominator's of F",
    "ci_lower": "lower limit of the interval",
    "ci_upper": "upper limit of the interval",
    "p_value": "two-sided, of the hypothesis that the parameter is 0, of a ratio 1",
    "shift": "of a fixed effect of a normal truth: its estimate is normal about truth plus "
    "`shift`, given the residuals",
    "true_se": "the SD of that: of least squares with the true covariance",
    "realized": "the same quantity among the random effects drawn",
    "status": "`ok`, `boundary`, `not_converged` or `failed`; the first two are usable",
    "loglik": "log-likelihood, REML or ML",
    "evaluations": "of the likelihood",
    "certificate": "relative violation of the first-order conditions of the optimum",
    "message": "why a fit is not usable",
    "condition_in_words": "its swept values, such as `animal.count = 5, sigma = 0.5`",
    "design_in_words": "units per level, and observations; null in what a folder of format 2 left",
    "swept": "swept values by key, as JSON; also a column per key, such as `truth.sigma`",
    "kind": "`fixed`, `term`, `sd`, `variance`, `correlation`, `icc`, `sigma`, `residual`, "
    "`risk_difference`, `rate_ratio`, `odds_ratio`; `own`: another name, of an estimand or of a "
    "function of yours",
    "level": "of random effects, or `total`; null for others",
    "numerator_df": "of a test of several columns",
    "truth": "what the parameter estimates",
    "theory_emp_se": "SD of the estimates in a balanced design",
    "theory_df": "df of the t test in a balanced design; of crossed units, Satterthwaite's",
    "theory_rejection": "share of tests that reject in a balanced design",
}
FILES = {
    "conditions.parquet": CONDITIONS_SCHEMA,
    "estimates/*.parquet": ESTIMATES_SCHEMA,
    "fits/*.parquet": FITS_SCHEMA,
}


def page() -> str:
    """The whole page."""
    sections = [HEAD, "## Commands\n", *_commands(), "## Scenario\n", *_scenario()]
    sections += ["## Files\n", *_files(), "## Measures\n", _measures()]
    return "\n".join(sections)


def _commands() -> Iterator[str]:
    named = {f"mcsim {name}": command for name, command in sorted(main.commands.items())}
    for name, command in ({"mcsim": main} | named).items():
        context = click.Context(command, info_name=name, terminal_width=100)
        yield f"### {name}\n\n```text\n{command.get_help(context)}\n```\n"


def _scenario() -> Iterator[str]:
    schema = scenario_schema()
    yield from _tables("the file", schema, schema["$defs"], set())


def _tables(
    path: str, record: dict[str, Any], known: dict[str, Any], told: set[str]
) -> Iterator[str]:
    """A table of a record's keys, then the records within it."""
    required = record.get("required", ())
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, value in record["properties"].items():
        given = value.get("default")
        default = "required" if key in required else f"`{_as_toml(given)}`" if given else ""
        rows.append(f"| `{key}` | {default} | {_meaning(value)} |")
    yield f"### {path}\n\n{record.get('description', '')}\n\n" + "\n".join(rows) + "\n"
    for key, value in record["properties"].items():
        outer = key if path == "the file" else f"{path.strip('`[]')}.{key}"
        for place, name in _references(value, outer):
            if name not in told:
                told.add(name)
                yield from _tables(f"`{place}`", known[name], known, told)


def _as_toml(value: Any) -> str:
    return json.dumps(value)


def _meaning(value: dict[str, Any]) -> str:
    text = value.get("description", "")
    names = value.get("enum") or next(
        (one["enum"] for one in value.get("anyOf", ()) if "enum" in one), ()
    )
    text += f" ({', '.join(names)})" if names else ""
    return text.replace("|", "\\|")


def _references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Where a value holds records, and the names of these."""
    if not isinstance(value, dict):
        return
    if "$ref" in value:
        yield f"[{path}]", value["$ref"].rpartition("/")[2]
    for key in ("anyOf", "oneOf", "allOf"):
        for one in value.get(key, ()):
            yield from _references(one, path)
    for _, name in _references(value.get("items"), path):
        yield f"[[{path}]]", name
    yield from _references(value.get("additionalProperties"), f"{path}.NAME")


def _files() -> Iterator[str]:
    for name, schema in FILES.items():
        rows = [f"| `{one.name}` | {_type(one.type)} | {MEANINGS[one.name]} |" for one in schema]
        head = f"### {name}\n\n| column | type | meaning |\n|---|---|---|"
        yield "\n".join([head, *rows]) + "\n"


def _type(kind: pa.DataType) -> str:
    return f"{kind.value_type}, dictionary" if pa.types.is_dictionary(kind) else str(kind)


def _measures() -> str:
    rows = ["| measure | meaning |", "|---|---|"]
    for name, measure in MEASURES.items():
        plain = measure.func if isinstance(measure, partial) else measure
        meaning = (inspect.getdoc(plain) or "").partition("\n")[0].replace("|", "\\|")
        if isinstance(measure, partial):
            meaning += "".join(f" `{key} = {value}`." for key, value in measure.keywords.items())
        rows.append(f"| `{name}` | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
