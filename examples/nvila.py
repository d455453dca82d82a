"""Ask NVILA about a clip, dense and with 30 % of the work on visual tokens.

Run `python examples/nvila.py --trust-remote-code --video clip.mp4`.

The model's code comes with its checkpoint and runs only if you say so; it may ask for another release of transformers.
NVILA-8B-Video and NVILA-15B-Video bring none: load them with the package of VILA, then go on in the same way.
"""

from __future__ import annotations

import argparse

from PIL import Image
from transformers import GenerationConfig

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import load_clip

MODEL = "Efficient-Large-Model/NVILA-Lite-2B-hf-preview"
QUESTION = "What happens in this video?"


def main(model: str, video: str, frames: int, trust_remote_code: bool) -> None:
    checkpoint = load_checkpoint(model, trust_remote_code=trust_remote_code)
    vlm = checkpoint.model

    pictures = [Image.fromarray(frame) for frame in load_clip(video, frames=frames).frames]
    options = GenerationConfig(max_new_tokens=32, do_sample=False)

    def answer() -> str:
        return vlm.generate_content([*pictures, QUESTION], generation_config=options)

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.FrameFusion(cost=0.3)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL, help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over the video")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that comes with the checkpoint")
    main(**vars(parser.parse_args()))
