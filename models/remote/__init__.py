"""A classifier that is asked over the network: noise and denoiser run here, pictures go there, labels come back."""
