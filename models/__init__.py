"""All that needs torch: bundles, the denoise-and-classify pipeline, training."""
