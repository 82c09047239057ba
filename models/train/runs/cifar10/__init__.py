"""CIFAR-10: networks for a GPU, and smaller ones for a CPU."""
