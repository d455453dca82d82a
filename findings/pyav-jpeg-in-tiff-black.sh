#!/bin/sh
# PyAV 18.1.0 (FFmpeg 8.1): a TIFF picture whose strips are JPEG (compression 7, which Pillow and libtiff write and read) comes
# out black: no error, no frame marked as corrupt. FFmpeg knows JPEG in TIFF only for digital negatives.
# Seen: "raw: mean 127.0, corrupt False", "jpeg: mean 0.0, corrupt False (Pillow reads 127.0)"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install av==18.1.0 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'EOT'
import sys
import av
import numpy as np
from PIL import Image

slope = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
means = {}
for compression in ("raw", "tiff_lzw", "jpeg"):
    Image.fromarray(slope).save("picture.tiff", compression=compression)
    pillow = float(np.asarray(Image.open("picture.tiff")).mean())
    with av.open("picture.tiff") as container:
        frame = next(container.decode(video=0))
        means[compression] = float(frame.to_ndarray(format="rgb24").mean())
        print(f"{compression}: mean {means[compression]:.1f}, corrupt {frame.is_corrupt} (Pillow reads {pillow:.1f})")
    assert abs(pillow - 127) < 3
sys.exit(not (means["jpeg"] == 0 and abs(means["raw"] - 127) < 3 and abs(means["tiff_lzw"] - 127) < 3))
EOT
