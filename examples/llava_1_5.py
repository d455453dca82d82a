"""Ask LLaVA-1.5 about a picture, dense and with PruMerge, which keeps what the vision tower looks at.

Run `python examples/llava_1_5.py --video clip.mp4`.
"""

from __future__ import annotations

import argparse

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.video import load_clip

QUESTION = "What is in this picture?"


def main(model: str, video: str, keep: float | None) -> None:
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
    vlm = AutoModelForImageTextToText.from_pretrained(model, dtype="auto", trust_remote_code=False)
    vlm = vlm.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    picture = Image.fromarray(load_clip(video, frames=1).frames[0])
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[text], images=[picture], return_tensors="pt").to(vlm.device, vlm.dtype)

    def answer() -> str:
        output = vlm.generate(**inputs, max_new_tokens=32, do_sample=False)
        return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.PruMerge(keep=keep)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-1.5-7b-hf", help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file; its first frame is the picture")
    parser.add_argument("--keep", type=float, help="fraction of the tokens; without it the picture decides")
    main(**vars(parser.parse_args()))
