"""Concepts: what was learned, as data and as files."""
