"""`python -m mcsim`."""

from mcsim.cli.main import main

main(prog_name="mcsim")
