"""Measurements and the demo: run by hand or by make, never by the service. tests/benchmarks tests them."""
