"""The same request asked of stock transformers, reduced by the library itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import framefusion as ff
from tests.serving import clips
from tests.serving.checkpoints import dtype_of
from tests.serving.engine import TAKES_METADATA


@dataclass(frozen=True)
class Seen:
    """patches, patches_dense: that the tower encoded, and has. rows: (N, D) of the visual tokens as they enter the
    language model, with DeepStack's behind. kept: (K,) which of them its last layer read."""

    patches: int
    patches_dense: int
    rows: Tensor
    kept: Tensor


class StockModel:
    def __init__(self, name: str, folder: Path) -> None:
        loaded = ff.load_checkpoint(str(folder), dtype=dtype_of(name))
        self.name, self.model, self.processor = name, loaded.model, loaded.processor

    def ask(
        self, text: str, videos: Sequence[np.ndarray], method: ff.Method, pictures: Sequence[Image.Image] = ()
    ) -> Seen:
        """text: as the engine is given it."""
        known: dict[str, Any] = {"images": list(pictures)} if pictures else {}
        if videos:
            known |= {"videos": list(videos), "do_sample_frames": False}
        if videos and self.name in TAKES_METADATA:
            known["video_metadata"] = [dict(clips.with_metadata(clip)[1]) for clip in videos]
            for one in known["video_metadata"]:
                del one["do_sample_frames"]
        inputs = self.processor(text=[text], return_tensors="pt", **known)
        entering: dict[str, Any] = {}
        watch = self.model.get_decoder().register_forward_pre_hook(
            lambda module, args, kwargs: entering.setdefault("first", kwargs) and None, with_kwargs=True
        )
        with ff.reduce(self.model, method, processor=self.processor) as reduction, torch.no_grad():
            self.model(**inputs)
        watch.remove()
        columns = reduction.report.layout.rows[0][1].columns.tolist()
        planes = entering["first"].get("deepstack_visual_embeds") or []
        rows = torch.cat([entering["first"]["inputs_embeds"][0, columns], *planes], 1)
        read = {*reduction.report.surviving_columns[0]}
        kept = torch.tensor([number for number, column in enumerate(columns) if column in read])
        return Seen(reduction.report.patches, reduction.report.patches_dense, rows, kept)
