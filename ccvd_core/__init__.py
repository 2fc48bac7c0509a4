"""CCVD: continual text-to-video customization (Dong et al., AAAI 2026). The method; knows torch, not ComfyUI."""
