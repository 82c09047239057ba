"""The `mdds` model, and a Triton Inference Server to run it without a container."""
