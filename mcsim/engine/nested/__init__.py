"""The likelihood of nested random effects."""
