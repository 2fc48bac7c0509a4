"""Prompts: which concepts a text names, and how strongly each acts."""
