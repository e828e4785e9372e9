"""How fast mcsim is, as ratios measured in one run: python -m benchmarks."""
