"""Residuals with a structure."""
