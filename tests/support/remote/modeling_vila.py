"""A stand-in in the shape of NVILA: one media token becomes the features of all frames, each frame ends in the
embedding of a line break, and the language model generates from the embeddings alone. Written for these tests."""

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

MEDIA = {"image": "<image>", "video": "<vila/video>"}


class VILAConfig(PreTrainedConfig):
    model_type = "vila"

    def __init__(self, llm_cfg=None, patch_size=14, vision_size=32, **kwargs):
        self.llm_cfg = llm_cfg
        self.patch_size, self.vision_size = patch_size, vision_size
        super().__init__(**kwargs)


class VILAForCausalLM(PreTrainedModel):
    config_class = VILAConfig
    main_input_name = "input_embeds"
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        text = Qwen2Config(**config.llm_cfg)
        text._attn_implementation = config._attn_implementation
        self.llm = Qwen2ForCausalLM(text)
        self.vision_tower = nn.Conv2d(3, config.vision_size, config.patch_size, config.patch_size)
        self.mm_projector = nn.Linear(config.vision_size, text.hidden_size)
        self._tokenizer = None
        self.post_init()

    @property
    def tokenizer(self):
        if self._tokenizer is None:
            self._tokenizer = PreTrainedTokenizerFast.from_pretrained(self.config._name_or_path)
        return self._tokenizer

    def get_input_embeddings(self):
        return self.llm.get_input_embeddings()

    def encode(self, pictures):
        """(T, 3, H, W) -> (T * (patches + 1), D): the frames, a line break after each."""
        features = self.mm_projector(self.vision_tower(pictures).flatten(2).transpose(1, 2))
        line_break = self.llm.model.embed_tokens(torch.tensor(self.tokenizer("\n").input_ids))
        ends = torch.stack([line_break] * features.shape[0])
        return torch.cat([features, ends], dim=1).flatten(0, 1)

    def _embed(self, input_ids, media, attention_mask):
        words = self.llm.model.embed_tokens(input_ids)
        names = {self.tokenizer.convert_tokens_to_ids(token): name for name, token in MEDIA.items()}
        waiting = {name: [self.encode(item) for item in items] for name, items in media.items()}
        rows = []
        for row in range(input_ids.shape[0]):
            columns = range(input_ids.shape[1])
            if attention_mask is not None:
                columns = [column for column in columns if attention_mask[row, column]]
            parts = []
            for column in columns:
                name = names.get(int(input_ids[row, column]))
                parts.append(waiting[name].pop(0) if name else words[row, column : column + 1])
            rows.append(torch.cat(parts))
        longest = max(row.shape[0] for row in rows)
        embeds = torch.stack([torch.cat([row.new_zeros(longest - row.shape[0], row.shape[1]), row]) for row in rows])
        mask = torch.stack([torch.arange(longest) >= longest - row.shape[0] for row in rows])
        return embeds, mask

    def forward(self, input_ids=None, media=None, attention_mask=None, inputs_embeds=None, **kwargs):
        if inputs_embeds is None:
            inputs_embeds, attention_mask = self._embed(input_ids, media or {}, attention_mask)
        return self.llm(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs)

    @torch.inference_mode()
    def generate(self, input_ids=None, media=None, media_config=None, attention_mask=None, **options):
        inputs_embeds, attention_mask = self._embed(input_ids, media or {}, attention_mask)
        return self.llm.generate(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **options)

    def generate_content(self, prompt, generation_config=None):
        media, text = {"image": []}, "<|im_start|>user\n"
        for part in prompt:
            if isinstance(part, str):
                text += part
                continue
            size = 4 * self.config.patch_size
            pixels = torch.from_numpy(np.array(part.convert("RGB").resize((size, size)))).float()
            media["image"].append(pixels.view(1, size, size, 3).permute(0, 3, 1, 2) / 127.5 - 1)
            text += MEDIA["image"]
        ids = self.tokenizer(text + "<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")["input_ids"]
        answer = self.generate(ids, media, generation_config=generation_config)
        return self.tokenizer.decode(answer[0], skip_special_tokens=True).strip()
