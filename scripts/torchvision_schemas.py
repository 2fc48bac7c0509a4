"""Lets PyPI's torchvision import beside a CPU build of torch (test environment only).

ComfyUI imports torchvision for models this pack never touches. Its PyPI wheel carries CUDA operators that do not load
beside a CPU torch, and the import then fails because the operators it registers fake kernels for are unknown. Declaring
their schemas first is enough; calling one still raises. `scripts/environment.py` copies this file into the test
environment's site-packages, with a `.pth` file that imports it.
"""

import importlib.abc
import importlib.machinery
import sys

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareOnFirstImport(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is first looked up, then steps aside."""

    library: object = None

    def find_spec(self, fullname, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision" and DeclareOnFirstImport.library is None:
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(operator + SCHEMA)
            # The registration lives as long as this reference.
            DeclareOnFirstImport.library = library
        return None


sys.meta_path.insert(0, DeclareOnFirstImport())
