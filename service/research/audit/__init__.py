"""An audit's report: its figures (figures.py), and each of its forms in a file of its own."""
