"""Programs about the project rather than of it: what to run on a borrowed GPU, and networks without their training."""
