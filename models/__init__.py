"""Bundles and the networks in them: engines, the denoise-and-classify pipeline; and what needs torch, training."""

import sys

# What `python -m models...` did up to 0.1, in this repository's folder.
_NOW = {
    "models.export": "certify bundles export",
    "models.train": "certify train",
    "models.train.finetune": "certify train",
    "models.train.pair": "certify train",
    "models.train.evaluate": "python -m benchmarks.digits",
    "models.triton.server": "certify triton",
}

if __name__ == "models":
    asked = next((name for name in sys.orig_argv if name in _NOW), None)
    if asked is not None:
        raise SystemExit(f"error: `python -m {asked}` is `{_NOW[asked]}` now")
    raise ImportError("`models` is `certify.models` now")
