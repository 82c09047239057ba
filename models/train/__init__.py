"""Training of bundles, which benchmarks/ judges; never imported while serving."""
