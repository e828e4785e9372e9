"""A run: conditions prepared, chunks, workers, commits, stopping, repair."""
