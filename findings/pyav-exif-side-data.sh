#!/bin/sh
# PyAV 18.1.0: reading the side data of a decoded picture that carries EXIF raises ValueError ("31 is not a valid Type"),
# because FFmpeg 8 attaches the EXIF block as a kind of side data that PyAV has no name for. The display matrix that
# FFmpeg makes of the EXIF orientation is then out of reach, though `frame.rotation` still works: it gives -180 for a
# picture that is only mirrored (orientation 2), and for one that is turned by half (3) alike.
# Seen: "orientation 2: ValueError: 31 is not a valid Type, rotation -180"
#       "orientation 3: ValueError: 31 is not a valid Type, rotation -180"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install av==18.1.0 pillow==13.0.0 numpy==2.4.6
venv/bin/python - <<'EOF'
import sys
import av
from PIL import Image

as_seen = True
for orientation in (2, 3):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (64, 48)).save("picture.jpg", exif=exif)
    with av.open("picture.jpg") as container:
        frame = next(container.decode(video=0))
        try:
            found = f"side data of kinds {[data.type.name for data in frame.side_data]}"
        except ValueError as error:
            found = f"ValueError: {error}"
        print(f"orientation {orientation}: {found}, rotation {frame.rotation}")
        as_seen &= found.startswith("ValueError") and frame.rotation == -180
sys.exit(not as_seen)
EOF
