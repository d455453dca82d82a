#!/bin/sh
# PyAV 18.1.0 (FFmpeg 8.1): the times of decoded frames of an AVI file with B-frames jump back and forth. AVI stores no
# presentation times; earlier releases of FFmpeg left them empty, this one makes them of the order of decoding. Frames
# come out in the order they are shown, so their times should increase; sorting frames by `frame.time` shuffles the clip.
# Seen: "AVI: [0.04, 0.16, 0.12, 0.2, 0.08, ...] increasing: False", "MP4: ... increasing: True" (the same frames)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install av==18.1.0 numpy==2.4.6
venv/bin/python - <<'EOF'
import sys
from fractions import Fraction
import av
import numpy as np

seen = {}
for name in ("clip.avi", "clip.mp4"):
    with av.open(name, "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"bf": "3", "x264-params": "b-adapt=0"}
        for number in range(24):
            picture = np.full((48, 64, 3), 20 + 8 * number, np.uint8)
            picture[:, (number * 3) % 64] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(name) as container:
        frames = list(container.decode(video=0))
        times = [frame.time for frame in frames]
        levels = [float(frame.to_ndarray(format="rgb24").mean()) for frame in frames]
    assert levels == sorted(levels), "the frames themselves come out in order"
    seen[name] = all(time is not None for time in times) and times == sorted(times)
    print(f"{name[-3:].upper()}: {times[:8]} increasing: {seen[name]}")
sys.exit(seen != {"clip.avi": False, "clip.mp4": True})
EOF
