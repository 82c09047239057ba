"""Checkpoints of openai/improved-diffusion and openai/guided-diffusion, as folders of diffusers."""
