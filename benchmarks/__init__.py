"""Measurements and the demo: run by hand or by make, never by the tests, never by the service."""
