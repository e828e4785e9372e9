"""Families of responses that are not normal: a log-likelihood and its derivatives, a file each."""
