"""Before a run: starter scenarios, dry run."""
