"""The statistics alone, on votes of your own making: no network, no server, no image.

    python examples/core_alone.py

The certifier says which draws it wants next, and gets counts. Here a random generator stands for the smoothed network;
with yours, classify `query.count` noisy copies at the scale `cascade.sigmas[query.level]` and count the classes. The
draws of a query begin at number `query.first` of the stream `query.purpose`; pilot and estimation are two streams.
"""

import numpy as np

from certify import Cascade, Certifier

# P[the network answers class c] at each scale, finest first. Unknown in real life: the certifier sees only counts.
PROBABILITIES = [[0.90, 0.06, 0.04], [0.80, 0.15, 0.05]]

cascade = Cascade.of((0.25, 0.5), threshold=0.5, final="plurality")
certifier = Certifier(cascade, 3, alpha=0.001, samples=10_000)
generator = np.random.default_rng(0)
while (query := certifier.next()) is not None:
    certifier.observe(query, generator.multinomial(query.count, PROBABILITIES[query.level]).tolist())

result = certifier.result()
print(f"class {result.label}, certified L2 radius {result.radius}, {result.samples_used} draws")
