#!/bin/sh
# transformers 5.24.0: the processor of Nemotron-H Omni counts a source frame as a whole number of milliseconds,
# int(1000 / fps), so the seconds it writes into the prompt run slow: at 30 frames per second the frame of minute one is
# announced at 59.40 seconds, at 60 frames per second at 57.60.
# Seen: "30 fps: frame 1800 at 60.00 s is announced at 59.40", "60 fps: frame 3600 at 60.00 s is announced at 57.60"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install torch==2.13.0 transformers==5.24.0 pillow==13.0.0
HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import importlib
import re
import sys
from types import SimpleNamespace
import torch
from transformers.video_utils import VideoMetadata

module = importlib.import_module("transformers.models.nemotron_h_omni.processing_nemotron_h_omni")
kind = module.NemotronH_Omni_Reasoning_V3Processor
told = {}
for fps in (30, 60):
    reader = kind.__new__(kind)
    reader.video_processor = SimpleNamespace(patch_size=2, downsample_ratio=0.5)
    reader.image_token, reader.image_start_token, reader.image_end_token = "#", "(", ")"
    reader.video_temporal_patch_dim = 2
    metadata = VideoMetadata(total_num_frames=61 * fps, fps=float(fps), frames_indices=[0, 60 * fps])
    inputs = {"num_frames": [2], "video_metadata": [metadata], "pixel_values_videos": torch.zeros(1, 1, 6, 8, 8)}
    text = reader.replace_video_token(inputs, 0)
    told[fps] = re.findall(r"sampled at ([\d.]+) seconds", text)[-1]
    print(f"{fps} fps: frame {60 * fps} at 60.00 s is announced at {told[fps]}")
sys.exit(told != {30: "59.40", 60: "57.60"})
EOF
