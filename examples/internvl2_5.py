"""Ask InternVL 2.5 about a clip, dense and with 30 % of the work on visual tokens.

Run `python examples/internvl2_5.py --trust-remote-code --video clip.mp4`.

The model's code comes with its checkpoint and runs only if you say so; it may ask for another release of transformers.
InternVL 3 is a class of transformers: `framefusion run clip.mp4 "..." --model OpenGVLab/InternVL3-8B-hf`.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn.functional import interpolate
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import load_clip

QUESTION = "What happens in this video?"


def one_tile_each(frames: torch.Tensor, side: int) -> torch.Tensor:
    """(T, height, width, 3) uint8 -> (T, 3, side, side), normalised."""
    pixels = interpolate(frames.permute(0, 3, 1, 2) / 255, size=(side, side), mode="bicubic", antialias=True)
    mean, deviation = (torch.tensor(value)[:, None, None] for value in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return (pixels.clamp(0, 1) - mean) / deviation


def main(model: str, video: str, frames: int, trust_remote_code: bool) -> None:
    checkpoint = load_checkpoint(model, trust_remote_code=trust_remote_code)
    vlm = checkpoint.model
    tokenizer = getattr(checkpoint.processor, "tokenizer", checkpoint.processor)

    clip = torch.from_numpy(load_clip(video, frames=frames).frames)
    side = vlm.config.force_image_size or vlm.config.vision_config.image_size
    pixels = one_tile_each(clip, side).to(vlm.device, vlm.dtype)
    prompt = "".join(f"Frame{number + 1}: <image>\n" for number in range(len(pixels))) + QUESTION
    options = {"max_new_tokens": 32, "do_sample": False}

    def answer() -> str:
        return vlm.chat(tokenizer, pixels, prompt, options, num_patches_list=[1] * len(pixels))

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.FrameFusion(cost=0.3)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="OpenGVLab/InternVL2_5-8B", help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over the video")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the checkpoint")
    main(**vars(parser.parse_args()))
