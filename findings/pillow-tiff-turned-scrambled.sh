#!/bin/sh
# Pillow 13.0.0: an uncompressed TIFF picture of mode L, P, RGBA or CMYK whose Orientation tag is 5 to 8 (turned by a
# quarter) comes out scrambled, without an error. Pillow swaps width and height when it opens the file, then maps the bytes of
# the file as rows of the swapped width, and turns that. The size changes between `open` and `load`, and the tag is gone
# afterwards, so `ImageOps.exif_transpose` does nothing more. RGB, and the same picture compressed, are right.
# Seen: "L raw: size (48, 64) when opened, (64, 48) when loaded, right: False", "L tiff_lzw: ... (48, 64) ..., right: True"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install pillow==13.0.0
venv/bin/python - <<'EOT'
import sys
from PIL import Image, ImageOps

exif = Image.Exif()
exif[0x0112] = 6
found = {}
for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
    for compression in ("raw", "tiff_lzw"):
        picture = Image.new("RGB", (64, 48), "white")
        picture.paste((0, 0, 0), (0, 0, 20, 30))
        picture = picture.convert(mode)
        picture.save("picture.tiff", exif=exif, compression=compression)
        with Image.open("picture.tiff") as read:
            opened = read.size
            shown = ImageOps.exif_transpose(read)
        right = picture.transpose(Image.Transpose.ROTATE_270)
        found[mode, compression] = shown.size == right.size and shown.convert("RGB").tobytes() == right.convert("RGB").tobytes()
        print(f"{mode} {compression}: size {opened} when opened, {shown.size} when loaded, right: {found[mode, compression]}")
as_seen = all(right == (mode == "RGB" or compression == "tiff_lzw") for (mode, compression), right in found.items())
sys.exit(not as_seen)
EOT
