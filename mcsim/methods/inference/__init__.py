"""Intervals and tests of a fit."""
