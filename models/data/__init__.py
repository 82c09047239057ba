"""Labelled images as people keep them: a module for each form, and what they share. models/datasets.py is the door."""
