"""Where ComfyUI runs for us: a free port, the processor or the GPU, and this repository among its node packs."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from installing import REPOSITORY


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def link_pack(link: Path) -> None:
    """Show ComfyUI this repository as one of its custom node packs."""
    unlink_pack(link)
    if sys.platform == "win32":
        # Unlike a symbolic link, a junction needs no special right.
        import _winapi

        _winapi.CreateJunction(str(REPOSITORY), str(link))
    else:
        link.symlink_to(REPOSITORY, target_is_directory=True)


def unlink_pack(link: Path) -> None:
    if sys.platform == "win32":
        if link.exists():
            link.rmdir()  # removes the junction, not what it points to
    else:
        link.unlink(missing_ok=True)
