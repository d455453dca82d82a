"""Ask Qwen2-VL about a clip, dense and with 30 % of the work on visual tokens.

Run `python examples/qwen2_vl.py --video clip.mp4`.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.video import load_clip

QUESTION = "What happens in this video?"


def main(model: str, video: str, frames: int) -> None:
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
    vlm = AutoModelForImageTextToText.from_pretrained(model, dtype="auto", trust_remote_code=False)
    vlm = vlm.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    clip = load_clip(video, frames=frames)
    content = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(
        text=[text], videos=[clip.frames], video_metadata=[clip.metadata()], do_sample_frames=False, return_tensors="pt"
    ).to(vlm.device, vlm.dtype)

    def answer() -> str:
        output = vlm.generate(**inputs, max_new_tokens=32, do_sample=False)
        return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.FrameFusion(cost=0.3)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2-VL-7B-Instruct", help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over the video")
    main(**vars(parser.parse_args()))
