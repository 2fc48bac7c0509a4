"""A package, so that a process that a test starts finds these tests and not ComfyUI's, which are one too."""
