"""What runs the network. `base` is the contract; one file per backend."""
