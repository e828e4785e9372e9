"""Where the tasks of a run are done."""
