"""What the readers of single families need besides the defaults of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAME_READER: Mapping[str, str] = {
    "cosmos3_omni": "qwen3_vl",
    "fast_vlm": "llava",
    "glm4v_moe": "glm4v",
    "glm_ocr": "glm46v",
    "glmga": "glm46v",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe",
    "qwen3_vl_moe": "qwen3_vl",
}
"""Families without a processor of their own, and whose they take."""

CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
VISION = {"all": ("<|vision_start_token|>", "<|vision_end_token|>")}
QWEN = {"wrap": VISION}
QWEN3 = QWEN | {"image_processor": {"patch_size": 16}}
OMNI = {"wrap": {"all": ("<|vision_bos_token|>", "<|vision_eos_token|>")}}
METADATA = {"call": {"return_metadata": True}}
GLM = {
    "wrap": {
        "image": ("<|begin_of_image|>", "<|end_of_image|>"),
        "video": ("<|begin_of_video|>", "<|end_of_video|>"),
    },
    "words": {
        "image_start_token": "<|begin_of_image|>",
        "image_end_token": "<|end_of_image|>",
        "video_start_token": "<|begin_of_video|>",
        "video_end_token": "<|end_of_video|>",
    },
}
SQUARE_336 = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
LLAVA = {"processor": CLIP, "image_processor": SQUARE_336}
PARTS_OF_14 = {"config": {"insert_layer_id": 0, "vision_config": {"patch_size": 14, "insert_layer_id": 0}}}
MUSE = METADATA | {"config": {"out_hidden_size": 256}}
NORM = {"norm_mean": [0.5] * 3, "norm_std": [0.5] * 3}
INTERN = {"size": {"height": 448, "width": 448}}
SINGLE = {"patch_size": 14, "temporal_patch_size": 1}
CODED = {"step": 60, "silent": r"(vq|tokenizer).*encoder.*attn.*(proj_out|out_proj)"}
"""What quantises its pictures shows no small changes, and random attention changes the codes of the whole picture."""
GEMMA3 = {
    "config": {"mm_tokens_per_image": 256, "vision_config": {"patch_size": 14}},
    "ids": {"image_token_id": "<|image_token|>"},
}
MISTRAL = {
    "processor": {"patch_size": 14, "spatial_merge_size": 2},
    "config": {"spatial_merge_size": 2, "vision_config": {"patch_size": 14}},
}
QUERIES_FIRST = {
    "image_processor": {"size": {"height": 224, "width": 224}},
    "processor": {"num_query_tokens": 9},
    "without": ("image",),
    "marks": {"image": ""},
}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v", "glm5_next", "glm_ocr", "glmga"), GLM),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "exaone4_5", "hyperclovax_vision_v2"), QWEN),
    **dict.fromkeys(
        ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen4_exp", "cosmos3_omni", "lfm3_vl"), QWEN3
    ),
    "qwen2_5_omni_thinker": OMNI,
    "cohere_compass": QWEN3 | {"words": {"image_token": "<|IMAGE_PAD|>", "video_token": "<|VIDEO_PAD|>"}},
    "cosmos3_edge": QWEN | METADATA,
    "dots3_note": QWEN | {"image_processor": SINGLE, "video_processor": SINGLE},
    "qwen3_omni_moe_thinker": OMNI | {"image_processor": {"patch_size": 16}, "video_processor": {"patch_size": 16}},
    "ernie4_5_vl_moe": {
        "wrap": {
            "image": ("<|image_start_token|>", "<|image_end_token|>"),
            "video": ("<|video_start_token|>", "<|video_end_token|>"),
        },
        "video_processor": {"draw_on_frames": False},  # the font comes with checkpoints
    },
    "gemma4": {"config": {"vision_config": {"patch_size": 16, "position_embedding_size": 10240}}},
    "gemma4_unified": {"config": {"vision_config": {}}},
    "aya_vision": {
        "image_processor": {"size": {"height": 364, "width": 364}},
        "config": {"vision_config": {"image_size": 364, "patch_size": 14}},
    },
    "idefics3": {"config": {"vision_config": {"image_size": 364, "patch_size": 14}, "scale_factor": 2}},
    "apertus1p5": CODED
    | {
        "config": {
            "vision_config": {"codebook_size": 256, "channel_multiplier": [1] * 5},
            "image_token_offset": 400,
            "audio_token_offset": 656,
            "text_config": {"vocab_size": 1024},
        }
    },
    "aria": {
        "config": {
            "projector_patch_to_query_dict": {4900: 256},
            "vision_config": {"patch_size": 14, "image_size": 980},
        },
    },
    "chameleon": CODED | {"config": {"vq_config": {"channel_multiplier": [1] * 5}}},
    "deepseek_ocr2": {
        "config": {"vision_config": {"sam_config": {"downsample_channels": [64, 64], "global_attn_indexes": [1]}}},
    },
    "deepseek_vl_hybrid": {
        "config": {
            "vision_config": {"image_size": 384, "patch_size": 16},
            "high_res_vision_config": {"global_attn_indexes": [1]},
        },
    },
    "emu3": CODED
    | {
        "image_processor": {"min_pixels": 128 * 128},  # its own least takes minutes here
        "config": {"vq_config": {"channel_multiplier": [1, 1, 1, 2]}},
    },
    "fast_vlm": {
        "processor": {"patch_size": 32, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0},
        "image_processor": SQUARE_336 | {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}},
    },
    "gemma3": GEMMA3,
    "shieldgemma2": GEMMA3
    | {
        "pictures": 1,
        "processor": {"chat_template": "see<|boi_token|>what?"},
        "call": {"policies": ["violence"]},
    },
    "gemma3n": {
        "processor": {"image_seq_length": 49},
        "config": {"vision_soft_tokens_per_image": 49},
        "marks": {"image": "<|image_token|>"},
        "ids": {"image_token_id": "<|image_token|>"},
    },
    "granite4_vision": {
        "inside": True,
        "processor": CLIP | {"downsample_rate": "4/8"},
        "image_processor": SQUARE_336,
        "config": {
            "downsample_rate": "4/8",
            "deepstack_layer_map": [[-2, 0], [-1, 2]],
            "image_grid_pinpoints": None,
            "vision_config": {"image_size": 336, "patch_size": 14},
        },
    },
    **dict.fromkeys(("mistral3", "mistral_large4"), MISTRAL),
    "ovis2": {
        "image_processor": INTERN,
        "config": {"vision_config": {"image_size": 448, "hidden_stride": 2}},
        "ids": {"image_token_id": "<IMG_ATOM>"},
    },
    "pp_chart2table": {"marks": {"image": "<|image_token|>" * 256}, "ids": {"image_token_id": "<|image_token|>"}},
    "paligemma": {"image_processor": {"image_seq_length": 256, "size": {"height": 224, "width": 224}}},
    "fuyu": {
        "pillow": True,
        "marks": {"image": ""},
        "prefix": "_",
        "ids": {"image_token_id": "|SPEAKER|"},
        "config": {"patch_size": 30},
        "call": {"return_legacy_image_output": False},
    },
    "kosmos-2": {
        "reader": "Kosmos2Processor",
        "marks": {"image": ""},
        "config": {"latent_query_num": 64},
    },
    "kosmos-2.5": {
        "reader": "Kosmos2_5Processor",
        "marks": {"image": ""},
        "config": {"latent_query_num": 2048, "vision_config": {"patch_embed_hidden_size": 768}},
    },
    "qianfan_ocr": {"image_processor": INTERN, "marks": {"image": "<image>"}},
    "idefics2": {"pillow": True},
    "instructblip": QUERIES_FIRST,
    "hunyuan_vl": {"wrap": {"all": ("<|image_start_token|>", "<|image_end_token|>")}},
    "got_ocr2": {"image_processor": {"size": {"height": 1024, "width": 1024}}},
    "blip-2": QUERIES_FIRST,
    "deepseek_vl": {"config": {"vision_config": {"image_size": 384, "patch_size": 16}}},
    "internvl": {"image_processor": INTERN, "video_processor": INTERN},
    "kimi_k25": {"wrap": {"image": ("<|media_begin|>image<|media_content|>", "<|media_end|>")}},
    **dict.fromkeys(("minicpmv4_6", "minicpmv4_7", "minicpm_ocr"), PARTS_OF_14),
    "molmo2": {
        "marks": {"image": "<|image_token|>"},
        "ids": {
            "image_patch_id": "<im_patch>",
            "image_start_token_id": "<im_start>",
            "low_res_image_start_token_id": "<low_res_im_start>",
            "image_end_token_id": "<im_end>",
            "frame_start_token_id": "<frame_start>",
            "frame_end_token_id": "<frame_end>",
        },
    },
    **dict.fromkeys(("muse_glimmer", "muse_spark"), MUSE),
    "nemotron_h_omni": {
        "classes": {"feature_extractor": "ParakeetFeatureExtractor"},
        "image_processor": NORM,
        "video_processor": NORM,
    },
    "smolvlm": {
        "config": {"vision_config": {"image_size": 364, "patch_size": 14}, "scale_factor": 2},
    },
    "video_llama_3": {"config": {"vision_config": {"patch_size": 14}}},
    "llava_next_video": {
        "processor": CLIP,
        "video_processor": SQUARE_336,
        "image_processor": SQUARE_336,
    },
    "llava_next": {
        "processor": CLIP,
        "image_processor": SQUARE_336,
    },
    **dict.fromkeys(("llava", "vipllava"), LLAVA),
    "video_llava": {"classes": {"image_processor": "VideoLlavaImageProcessor"}},
    "llava_onevision": {"processor": {"num_image_tokens": 729, "vision_feature_select_strategy": "full"}},
    "perception_lm": {
        "processor": {"patch_size": 14},
        "config": {
            "projector_pooling_ratio": 2,
            "vision_config": {"model_args": {"img_size": 448, "patch_size": 14}},
        },
    },
    "instructblipvideo": {
        "frames": 4,  # its processor writes the tokens of four frames, whatever it is given
        "processor": {"num_query_tokens": 9},
        "video_processor": {"size": {"height": 224, "width": 224}},
        "only_videos": True,
        "without": ("video",),
    },
}
