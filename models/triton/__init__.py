"""What runs inside or around a Triton Inference Server: the `mdds` model and a server for machines without containers."""
