"""Where the recipe of `shrink` is not enough: values of the configurations of single architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADS, WIDTH, HEAD_WIDTH, LAYERS = 4, 64, 16, 4
QUERIES = 9
IMAGE_WORDS = {"<image>": 100, **{f"IMGIMG{chr(65 + n)}Z": 110 + n for n in range(8)}}
IMAGE_CODES = {"<image>": 100, "<|extra_200|>": 118, **{f"<|visual token {n:06d}|>": 110 + n for n in range(8)}}
CODES = {"num_embeddings": 8, "codebook_size": 8, "base_channels": 32, "channel_multiplier": [1, 1]}
ALIKE = {"text_config": {"num_key_value_heads": HEADS}}


def _sections(*sizes: int) -> dict[str, Any]:
    """Some architectures have a default for these in their code alone."""
    return {"text_config": {"rope_parameters": {"rope_type": "default", "mrope_section": list(sizes)}}}


THINKER = {**_sections(2, 3, 3), "vision_start_token_id": 0}
TILES = [[32, 64], [64, 32], [64, 64]]

SIZES_OF: Mapping[str, Mapping[str, Any]] = {
    **{key: {"num_query_tokens": QUERIES} for key in ("blip-2", "instructblip", "instructblipvideo")},
    "apertus1p5": {
        "image_token_offset": 140,
        "audio_token_offset": 148,
        "vision_config": {"codebook_size": 8, "base_channels": 32, "channel_multiplier": [1, 1]},
        "audio_config": {"hidden_size": 512, "codebook_size": 8},
    },
    "aria": {"projector_patch_to_query_dict": {16: QUERIES}},
    "chameleon": {"vocabulary_map": IMAGE_WORDS, "vq_config": CODES},
    "cohere_compass": {
        "text_config": {"rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), None)},
    },
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse"] * 2, "num_experts_per_tok": 2}},
    "diffusion_gemma": {
        "text_config": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": WIDTH},
    },
    "emu3": {"vocabulary_map": IMAGE_CODES, "vq_config": CODES},
    "dots3_note": {
        "vision_config": {"num_hidden_layers": 42, "adapter_in_dim": WIDTH},
        "audio_config": {"adapter_input_size": WIDTH},
        "text_config": {
            "layer_types": ["full_attention"] * LAYERS,
            "per_layer_config": {},
            "num_key_value_heads": HEADS,
        },
    },
    "ernie4_5_vl_moe": _sections(3, 3, 2),
    "fast_vlm": {"vision_config": {"hidden_size": 512, "architecture": "resnet10t", "model_args": {}}},
    **{key: {"mm_tokens_per_image": 4} for key in ("gemma3", "shieldgemma2")},
    **{key: {"image_grid_pinpoints": TILES} for key in ("llava_next", "llava_next_video", "llava_onevision")},
    "gemma3n": {
        "text_config": {
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
        },
        "vision_config": {"architecture": "resnet10t", "hidden_size": 512},
        "vision_soft_tokens_per_image": 9,
    },
    "gemma4": {
        "text_config": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
        "vision_config": {
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HEAD_WIDTH,
            "patch_size": 8,
            "position_embedding_size": 64,
        },
    },
    "glm46v": _sections(2, 3, 3),
    "glm4v": _sections(2, 3, 3),
    "glm4v_moe": _sections(2, 1, 1),
    "glm5_next": {"text_config": {"qk_rope_head_dim": 0}},
    "inkling2": {"text_config": {"n_layers_per_attn_res_block": 2}},
    "glm_ocr": _sections(2, 3, 3),
    "glmga": _sections(2, 3, 3),
    "granite4_vision": {
        "deepstack_layer_map": [[-2, 1], [-1, 2]],
        "downsample_rate": "1/2",
        "image_grid_pinpoints": TILES,
    },
    "hy_v4_vl": _sections(2, 1, 1),
    "hunyuan_vl": {
        "text_config": {
            "head_dim": HEAD_WIDTH,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2, 2]},
        },
    },
    "llama4": {"vision_config": {"intermediate_size": 4 * WIDTH, "projector_input_dim": WIDTH}},
    "kosmos-2": {"latent_query_num": QUERIES},
    "kosmos-2.5": {"latent_query_num": QUERIES},
    "muse_spark": {
        "audio_config": {
            "num_hidden_layers": 2,
            "patch_sizes": [4, 4],
            "hidden_sizes": [16, WIDTH],
            "depths": [1, 1],
            "out_hidden_size": WIDTH,
        },
    },
    "nemotron_h_omni": {
        "text_config": {"layers_block_type": ["linear_attention", "full_attention", "moe", "full_attention"]},
        "vision_config": {"video_temporal_patch_size": 2},
    },
    "paddleocr_vl": _sections(2, 3, 3),
    "perception_lm": {
        "vision_config": {
            "architecture": "vit_tiny_patch16_224",
            "model_args": {"embed_dim": WIDTH, "depth": 2, "num_heads": HEADS, "img_size": 32, "global_pool": ""},
        },
    },
    "qwen2_5_omni": {"thinker_config": THINKER},
    "qwen2_5_omni_thinker": THINKER,
    "qwen2_5_vl": _sections(2, 3, 3),
    "qwen2_vl": _sections(2, 3, 3),
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 0},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": HEAD_WIDTH,
            "indexer_budget": 64,
            "indexer_compress_ratio": 4,
        },
    },
    "unlimited_ocr": ALIKE,
    "step3p7": {"text_config": {"sliding_window": HEAD_WIDTH}},
}
