"""A stand-in in the shape of InternVL 2.5's chat model: features are written over `<IMG_CONTEXT>` embeddings, all
tiles of an image in one run, and the language model generates from the embeddings alone. Written for these tests."""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM


class VisionConfig(PreTrainedConfig):
    model_type = "intern_vit_6b"

    def __init__(self, hidden_size=32, image_size=56, patch_size=7, **kwargs):
        self.hidden_size, self.image_size, self.patch_size = hidden_size, image_size, patch_size
        super().__init__(**kwargs)


class InternVLChatConfig(PreTrainedConfig):
    model_type = "internvl_chat"

    def __init__(self, vision_config=None, llm_config=None, force_image_size=None, downsample_ratio=0.5, **kwargs):
        self.vision_config = VisionConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
        self.force_image_size, self.downsample_ratio = force_image_size, downsample_ratio
        super().__init__(**kwargs)

    def to_dict(self):
        parts = {"vision_config": self.vision_config.to_dict(), "llm_config": self.llm_config.to_dict()}
        return super().to_dict() | parts


class InternVLChatModel(PreTrainedModel):
    config_class = InternVLChatConfig
    main_input_name = "pixel_values"
    base_model_prefix = "language_model"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        vision = config.vision_config
        config.llm_config._attn_implementation = config._attn_implementation
        self.side = int((config.force_image_size or vision.image_size) // vision.patch_size * config.downsample_ratio)
        self.num_image_token = self.side**2
        self.language_model = Qwen2ForCausalLM(config.llm_config)
        self.vision_model = nn.Conv2d(3, vision.hidden_size, vision.patch_size, vision.patch_size)
        self.mlp1 = nn.Linear(4 * vision.hidden_size, config.llm_config.hidden_size)
        self.img_context_token_id = None
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def extract_feature(self, pixel_values):
        """(tiles, 3, H, W) -> (tiles, tokens, D): each 2 x 2 patches are one token."""
        patches = self.vision_model(pixel_values)
        return self.mlp1(nn.functional.unfold(patches, 2, stride=2).transpose(1, 2))

    def fill(self, input_ids, pixel_values):
        embeds = self.get_input_embeddings()(input_ids)
        flat = embeds.reshape(-1, embeds.shape[-1])
        chosen = input_ids.reshape(-1) == self.img_context_token_id
        flat[chosen] = self.extract_feature(pixel_values).reshape(-1, flat.shape[-1]).to(flat)
        return flat.reshape(embeds.shape)

    def forward(self, pixel_values, input_ids=None, attention_mask=None, **kwargs):
        return self.language_model(
            inputs_embeds=self.fill(input_ids, pixel_values), attention_mask=attention_mask, **kwargs
        )

    @torch.no_grad()
    def generate(self, pixel_values=None, input_ids=None, attention_mask=None, **kwargs):
        assert self.img_context_token_id is not None
        words = self.get_input_embeddings()
        embeds = words(input_ids) if pixel_values is None else self.fill(input_ids, pixel_values)
        return self.language_model.generate(
            inputs_embeds=embeds, attention_mask=attention_mask, use_cache=True, **kwargs
        )

    def chat(self, tokenizer, pixel_values, question, generation_config, num_patches_list=None, **kwargs):
        self.img_context_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
        query = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        for tiles in num_patches_list or [pixel_values.shape[0]]:
            run = "<IMG_CONTEXT>" * self.num_image_token * tiles
            query = query.replace("<image>", f"<img>{run}</img>", 1)
        inputs = tokenizer(query, return_tensors="pt")
        answer = self.generate(pixel_values, inputs["input_ids"], inputs["attention_mask"], **generation_config)
        return tokenizer.decode(answer[0], skip_special_tokens=True).strip()
