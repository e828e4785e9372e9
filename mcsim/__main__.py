"""`python -m mcsim`."""

from mcsim.cli import main

main(prog_name="mcsim")
