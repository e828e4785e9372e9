"""Rewrite the golden files from what the code prints now; read the diff before committing it.

python tests/regenerate.py [--only NAME]
"""

import argparse
import importlib
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
# file in golden/: test module and its function that makes the text, given an empty folder
PRODUCERS = {
    "summary.txt": ("tests.summary.test_summarize", "golden_summary"),
    "same_numbers.csv": ("tests.test_same_numbers", "golden_numbers"),
}


def regenerate(name: str) -> None:
    """Write one golden file."""
    module, function = PRODUCERS[name]
    with tempfile.TemporaryDirectory() as directory:
        text = getattr(importlib.import_module(module), function)(Path(directory))
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / name).write_text(text)


def main() -> None:
    """Regenerate all golden files, or those with the stem that `--only` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(Path(name).stem for name in PRODUCERS))
    only = parser.parse_args().only
    for name in PRODUCERS:
        if only in (None, Path(name).stem):
            regenerate(name)


if __name__ == "__main__":
    main()
