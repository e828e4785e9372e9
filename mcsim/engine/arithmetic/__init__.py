"""Arithmetic of many replicates at once."""
