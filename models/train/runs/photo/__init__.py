"""Photographs at 224 px: a denoiser before a classifier with ImageNet's weights."""
