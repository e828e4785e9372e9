"""The folder of a study on disk: the only writer and the only reader of its files."""
