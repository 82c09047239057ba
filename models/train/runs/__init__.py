"""One file for each named run: `python -m models.train <name>`."""
