"""Ask MiniCPM-V 2.6 about a clip, dense and with 30 % of the work on visual tokens.

Run `python examples/minicpm_v.py --trust-remote-code --video clip.mp4`.

The model's code comes with its checkpoint and runs only if you say so; it may ask for another release of transformers.
MiniCPM-V 4.6 is a class of transformers: take examples/qwen3_vl.py for it.
"""

from __future__ import annotations

import argparse

from PIL import Image

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import load_clip

QUESTION = "What happens in this video?"


def main(model: str, video: str, frames: int, trust_remote_code: bool) -> None:
    checkpoint = load_checkpoint(model, trust_remote_code=trust_remote_code)
    vlm = checkpoint.model
    tokenizer = getattr(checkpoint.processor, "tokenizer", checkpoint.processor)

    pictures = [Image.fromarray(frame) for frame in load_clip(video, frames=frames).frames]
    messages = [{"role": "user", "content": [*pictures, QUESTION]}]
    options = {"max_slice_nums": 1, "use_image_id": False, "sampling": False, "max_new_tokens": 32}

    def answer() -> str:
        return vlm.chat(image=None, msgs=messages, tokenizer=tokenizer, **options)

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.FrameFusion(cost=0.3)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="openbmb/MiniCPM-V-2_6", help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over the video")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the checkpoint")
    main(**vars(parser.parse_args()))
