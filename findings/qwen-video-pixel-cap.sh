#!/bin/sh
# transformers 5.24.0: the video processors of Qwen2-VL and Qwen3-VL warn that without `cap_pixels_per_frame=True` clips
# cost "far more tokens" and that the cap becomes the default in 5.22. In 5.24.0 it is still off, and with the class
# defaults of Qwen3-VL it does the opposite: both bounds on the size move from the clip to each frame, and a clip of 64
# frames of 448 x 448 becomes 13 times as many patches. In Qwen2-VL it shrinks a clip, but `get_num_of_video_patches`,
# which is there to tell the number, goes on telling that without a cap.
# Seen: "Qwen2VLVideoProcessor: 32768 patches, capped 15488, said to be 32768"
#       "Qwen3VLVideoProcessor: 1152 patches, capped 15488, said to be 15488"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install torch==2.13.0 transformers==5.24.0 pillow==13.0.0 numpy==2.4.6
venv/bin/pip -q install --no-deps torchvision==0.28.0
HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import sys
import numpy as np
import torch

# Schemas that torchvision looks for at import, where torch is built for the CPU alone.
operators = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

clip, found = np.zeros((64, 448, 448, 3), np.uint8), []
for kind, more in ((Qwen2VLVideoProcessor, {"max_video_tokens": 64}), (Qwen3VLVideoProcessor, {})):
    options = {"cap_pixels_per_frame": True, **more}
    plain, capped = (kind(do_sample_frames=False, **given) for given in ({}, options))
    made = [len(one([clip], return_tensors="pt")["pixel_values_videos"]) for one in (plain, capped)]
    found.append((*made, capped.get_num_of_video_patches(64, 448, 448, options)))
    print("{}: {} patches, capped {}, said to be {}".format(kind.__name__, *found[-1]))
sys.exit(found != [(32768, 15488, 32768), (1152, 15488, 15488)])
EOF
