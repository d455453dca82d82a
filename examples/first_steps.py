"""Ask any model about a picture or a clip, dense and reduced, in a dozen lines: here the embedded one, offline.

Run `python examples/first_steps.py`, or with `--model Qwen/Qwen2.5-VL-3B-Instruct --media photo.jpg --question "..."`.
"""

from __future__ import annotations

import argparse

import framefusion as ff
from framefusion.cli.demo_clip.clip import EXAMPLE


def main(model: str, media: str, question: str, frames: int) -> None:
    session = ff.load(model)
    dense = session.ask(media, question, method=None, frames=frames)
    reduced = session.ask(media, question, keep=0.3, frames=frames)
    print("dense:  ", dense.text)
    print("reduced:", reduced.text)
    print(reduced.report)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="framefusion/tiny", help="hub id or path of a checkpoint")
    parser.add_argument("--media", default=str(EXAMPLE), help="picture, video, folder of frames or address")
    parser.add_argument("--question", default="which colour flashed?", help="what to ask")
    parser.add_argument("--frames", type=int, default=32, help="frames to read, evenly over a video")
    main(**vars(parser.parse_args()))
