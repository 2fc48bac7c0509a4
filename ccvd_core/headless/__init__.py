"""Learning, drawing and editing without ComfyUI: what `python -m ccvd_core` does."""
