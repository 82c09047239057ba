"""scikit-learn's handwritten digits: the plain bundle, and what goes on from it."""
