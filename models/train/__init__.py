"""Training and evaluation of bundles; never imported while serving."""
