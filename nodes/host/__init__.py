"""What the nodes share: ComfyUI's objects in the core's terms, and back."""
