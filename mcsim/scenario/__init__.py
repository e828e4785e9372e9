"""The scenario file: records, checks, conditions."""
