"""What all tests of the demo share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """The VAE's compiled parts run as they are written: compiling them for every shape takes longer than the tests.

    `test_full_sequence_vae.py` tests them compiled.
    """
    with torch.compiler.set_stance("force_eager"):
        yield
