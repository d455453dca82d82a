"""LLaVA-Video as LLaVA-OneVision with a newline after every row of every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from framefusion.inference.llava_video.configuration import LlavaVideoConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Names in the published checkpoints -> names here. What a release of transformers renames inside of SigLIP, it maps
# itself.
RENAMED = {
    r"^model\.vision_tower\.vision_tower\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.embed_tokens\.": "model.language_model.embed_tokens.",
    r"^model\.layers\.": "model.language_model.layers.",
    r"^model\.norm\.": "model.language_model.norm.",
}


class LlavaVideoModel(LlavaOnevisionModel):
    """Tower, projector and decoder; images are LLaVA-OneVision's."""

    config: LlavaVideoConfig

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> Any:
        """Visual tokens of videos (V, T, 3, H, W): `pooler_output` is (V, T * side * (side + 1), D)."""
        outputs = super().get_video_features(pixel_values_videos, **(kwargs | {"return_dict": True}))
        stock, side = outputs.pooler_output, self.config.pooled_side
        rows = pixel_values_videos.shape[1] * side
        patches = stock[:, : rows * side].unflatten(1, (rows, side))
        newline = self.image_newline.to(patches).expand(*patches.shape[:2], 1, -1)
        tokens = torch.cat((patches, newline), dim=2).flatten(1, 2)
        # The newline that ends the clip is added here or, in earlier releases, by the caller of this method.
        outputs.pooler_output = tokens if stock.shape[1] > rows * side else tokens[:, :-1]
        return outputs

    def apply_pooling(self, image_features: Tensor) -> Tensor:
        """(pictures, patches, D) -> (pictures, side * side, D)."""
        mode = self.config.mm_spatial_pool_mode
        if mode == "bilinear":
            return super().apply_pooling(image_features)
        pool: Callable[..., Tensor] = F.avg_pool2d if mode == "average" else F.max_pool2d
        sides = (self.config.patches_per_side,) * 2
        return pool(image_features.transpose(1, 2).unflatten(2, sides), 2).flatten(2).transpose(1, 2)


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):
    """LLaVA-Video with its language modelling head."""

    config_class = LlavaVideoConfig
    config: LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        # Past the parent, which would build a model of its own first.
        super(LlavaOnevisionForConditionalGeneration, self).__init__(config)
        self.model = LlavaVideoModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()
