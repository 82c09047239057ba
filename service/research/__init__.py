"""Whole data sets: tables, files of votes, policies, curves, the choice of thresholds, gates, audits."""
