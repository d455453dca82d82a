"""Let a CUDA build of torchvision be imported beside a CPU build of torch.

The registry's torchvision ships compiled operators that a CPU-only torch cannot load, and its Python part then fails on
the first operator it wants to describe. Declaring the missing schemas before that import is enough: the video
processors of transformers use the Python part only. Run once with the environment's interpreter; it writes a `.pth`
file and one small module into that environment, nothing into the package.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

MODULE = "_torchvision_on_cpu"
HOOK = '''\
"""Declares torchvision's operators right before torchvision is imported (written by scripts/torchvision_on_cpu.py)."""

import sys

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _BeforeTorchvision:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            global library
            library = torch.library.Library("torchvision", "FRAGMENT")
            for schema in SCHEMAS:
                library.define(schema)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
'''


def main() -> None:
    import torch

    if torch.version.cuda is not None:
        print("torch has CUDA: torchvision needs no help")
        return
    site = Path(sysconfig.get_paths()["purelib"])
    (site / f"{MODULE}.py").write_text(HOOK)
    (site / f"{MODULE}.pth").write_text(f"import {MODULE}\n")
    print("torchvision can now be imported beside CPU torch")


if __name__ == "__main__":
    main()
