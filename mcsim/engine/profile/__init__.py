"""Profile-likelihood intervals."""
