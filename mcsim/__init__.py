"""Monte Carlo studies of nested mixed-effects designs."""

__version__ = "0.1.0"
