"""ComfyUI's own classes in a benchmark's process."""

from __future__ import annotations

import sys

from environment import ensure_environment


def use_comfyui() -> None:
    """Make `comfy` importable, on the CPU."""
    comfyui = str(ensure_environment().comfyui)
    if comfyui not in sys.path:
        sys.path.append(comfyui)  # last: our own `nodes` must stay ours
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
