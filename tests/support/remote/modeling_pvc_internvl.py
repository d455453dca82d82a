"""A stand-in in the shape of PVC's model: InternVL's chat model, whose frames attend to earlier ones at each place in
front of a stronger pixel shuffle. What the published code does beyond that is unknown. Written for these tests."""

import torch
from torch import nn

from .modeling_internvl_chat import InternVLChatConfig, InternVLChatModel


class PVCInternVLConfig(InternVLChatConfig):
    model_type = "pvc_internvl"

    def __init__(self, downsample_ratio=0.25, **kwargs):
        super().__init__(downsample_ratio=downsample_ratio, **kwargs)


class PVCInternVLModel(InternVLChatModel):
    config_class = PVCInternVLConfig

    def __init__(self, config):
        super().__init__(config)
        width = config.vision_config.hidden_size
        self.temporal = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp1 = nn.Linear(16 * width, config.llm_config.hidden_size)
        self.post_init()

    def extract_feature(self, pixel_values):
        """(frames, 3, H, W) -> (frames, tokens, D): each 4 x 4 patches are one token."""
        patches = self.vision_model(pixel_values)
        places = patches.flatten(2).permute(2, 0, 1)
        later = torch.ones(len(patches), len(patches), dtype=torch.bool, device=patches.device).triu(1)
        places = places + self.temporal(places, places, places, attn_mask=later, need_weights=False)[0]
        patches = places.permute(1, 2, 0).reshape(patches.shape)
        return self.mlp1(nn.functional.unfold(patches, 4, stride=4).transpose(1, 2))
