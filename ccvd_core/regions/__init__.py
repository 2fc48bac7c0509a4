"""Regions: where in the frame, and when, which prompt holds."""
