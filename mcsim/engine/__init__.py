"""REML and ML fits of nested mixed-effects models: arrays in, arrays out."""
