"""`python -m mcsim`."""

import sys
from pathlib import Path

if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    del sys.path[0]  # the working directory: folders of results may be named as packages are

from mcsim.cli.main import main

main(prog_name="mcsim")
