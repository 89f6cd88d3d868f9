"""Behavioral investigation of meta-learning for compositionality: episodes, each with a hidden rewrite grammar."""
