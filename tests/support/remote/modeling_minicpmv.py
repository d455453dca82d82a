"""A stand-in in the shape of MiniCPM-V 2.6: resampled tokens are written over `<unk>` embeddings inside of
`image_bound`, and the language model generates from the embeddings alone. Written for these tests; untrained."""

from threading import Thread

import numpy as np
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2PreTrainedModel, TextIteratorStreamer


class MiniCPMVConfig(Qwen2Config):
    model_type = "minicpmv"

    query_num: int = 4
    patch_size: int = 14
    vision_size: int = 32


class Resampler(nn.Module):
    """`query_num` learned queries attend to the patches of each picture."""

    def __init__(self, count, width, vision):
        super().__init__()
        self.query = nn.Parameter(torch.randn(count, width))
        self.kv = nn.Linear(vision, width)

    def forward(self, patches):
        keys = self.kv(patches)
        share = (self.query @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5).softmax(-1)
        return share @ keys


class MiniCPMV(Qwen2PreTrainedModel):
    config_class = MiniCPMVConfig

    def __init__(self, config):
        super().__init__(config)
        self.llm = Qwen2ForCausalLM(config)
        self.vpm = nn.Conv2d(3, config.vision_size, config.patch_size, config.patch_size)
        self.resampler = Resampler(config.query_num, config.hidden_size, config.vision_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.llm.get_input_embeddings()

    def get_vllm_embedding(self, data):
        """Embeddings of `input_ids` (B, L) with each row's pictures in their bounds."""
        embeds = self.llm.model.embed_tokens(data["input_ids"])
        for row, (pictures, bounds) in enumerate(zip(data["pixel_values"], data["image_bound"], strict=True)):
            if len(pictures):
                patches = self.vpm(torch.stack(list(pictures)).to(embeds)).flatten(2).transpose(1, 2)
                features = self.resampler(patches).flatten(0, 1)
                columns = torch.cat([torch.arange(first, last) for first, last in bounds.tolist()])
                embeds[row].scatter_(0, columns[:, None].expand_as(features), features)
        return embeds

    def forward(self, data, **kwargs):
        return self.llm(
            input_ids=None, position_ids=data["position_ids"], inputs_embeds=self.get_vllm_embedding(data), **kwargs
        )

    def generate(
        self, input_ids, pixel_values, image_bound, attention_mask=None, tokenizer=None, stream=False, **kwargs
    ):
        data = {"input_ids": input_ids, "pixel_values": pixel_values, "image_bound": image_bound}
        with torch.inference_mode():
            embeds = self.get_vllm_embedding(data)
            options = {"inputs_embeds": embeds, "pad_token_id": 0, **kwargs}
            if not stream:
                return self.llm.generate(attention_mask=attention_mask, **options)
            streamer = TextIteratorStreamer(tokenizer, timeout=60)
            Thread(target=self.llm.generate, kwargs=options | {"streamer": streamer}).start()
            return streamer

    def chat(self, msgs, tokenizer, image=None, sampling=True, max_new_tokens=2048, stream=False, **kwargs):
        pictures, text = [], "<|im_start|>user\n"
        for part in msgs[0]["content"]:
            if isinstance(part, str):
                text += part
            else:
                size = 4 * self.config.patch_size
                pixels = torch.from_numpy(np.array(part.convert("RGB").resize((size, size)))).float()
                pictures.append(pixels.view(size, size, 3).permute(2, 0, 1) / 127.5 - 1)
                text += "<image>" + "<unk>" * self.config.query_num + "</image>\n"
        ids = tokenizer(text + "<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")["input_ids"]
        first, last = (tokenizer.convert_tokens_to_ids(mark) for mark in ("<image>", "</image>"))
        bounds = torch.stack([(ids[0] == first).nonzero().flatten() + 1, (ids[0] == last).nonzero().flatten()], 1)
        answer = self.generate(
            ids, [pictures], [bounds], None, tokenizer, stream, max_new_tokens=max_new_tokens, do_sample=sampling
        )
        return answer if stream else tokenizer.decode(answer[0], skip_special_tokens=True)
