"""Ask LLaVA-Video about a clip, dense and with 30 % of the work on visual tokens.

Run `python examples/llava_video.py --video clip.mp4`.

The published checkpoints are read as they are; the repository they come from is not needed.
"""

from __future__ import annotations

import argparse

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import load_clip

QUESTION = "What happens in this video?"


def main(model: str, video: str, frames: int) -> None:
    checkpoint = load_checkpoint(model)
    vlm, tokenizer = checkpoint.model, checkpoint.processor.tokenizer
    inputs = build_prompt(checkpoint, load_clip(video, frames=frames), QUESTION)

    def answer() -> str:
        output = vlm.generate(**inputs, max_new_tokens=32, do_sample=False)
        return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    print("dense:  ", answer())
    with ff.reduce(vlm, ff.FrameFusion(cost=0.3)) as reduction:
        print("reduced:", answer())
    print(reduction.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lmms-lab/LLaVA-Video-7B-Qwen2", help="hub id or path of a checkpoint")
    parser.add_argument("--video", default=str(EXAMPLE), help="video file")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over the video")
    main(**vars(parser.parse_args()))
