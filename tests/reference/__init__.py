"""Naive loops that say what the fast code must compute."""
