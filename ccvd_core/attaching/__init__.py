"""Attaching: concepts on a loaded model, and off again."""
