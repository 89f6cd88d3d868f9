"""Memory-based meta-learning on non-stationary sources: exact Bayes mixtures, and networks that learn to match them."""
