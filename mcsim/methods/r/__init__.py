"""Fits by R's nlme and lme4."""
