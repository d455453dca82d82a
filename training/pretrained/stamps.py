"""Pictures of things with words for them: the stamps of Tux Paint, as Debian packages them.

They are under the GPL-2: data that is fetched where it is used, and never part of this project.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from framefusion.core.errors import OptionError

PACKAGE = "tuxpaint-stamps-default"
INSTALLED = Path("usr/share/tuxpaint/stamps")
# What the things of a folder have in common, in one word; the first that fits.
GROUPS = {
    "animals/birds": "bird",
    "animals/fish": "fish",
    "animals/insects": "bug",
    "animals/mammals": "mammal",
    "animals/marsupials": "mammal",
    "clothes": "clothes",
    "food/fruit": "fruit",
    "food/vegetables": "vegetable",
    "hobbies/music": "instrument",
    "household/tools": "tool",
    "plants/flowers": "flower",
    "plants/trees": "tree",
    "space/planets": "planet",
    "symbols/alphabets/english": "letter",
    "symbols/money": "money",
    "town/houses": "house",
    "town/roadsigns": "sign",
    "vehicles": "vehicle",
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "grey", "white")
# Hues in degrees up to which a colour goes.
HUES = ((15, "red"), (45, "orange"), (68, "yellow"), (165, "green"), (262, "blue"), (295, "purple"), (345, "pink"))
DARK, PALE, BRIGHT, BROWN = 0.2, 0.18, 0.8, 0.6
# Share of a stamp's pixels that must have a colour for it to be the stamp's; names asked for; stamps kept for the test.
CLEAR, NAMES, KEPT = 0.6, 48, 5
LARGEST = 96
NAME = re.compile(r"An? ([a-z]+)\.")


@dataclass(frozen=True)
class Stamp:
    """file: below the folder of the stamps. name: one word, None where it is not asked for. held_out: from training."""

    file: str
    group: str
    name: str | None
    colour: str | None
    held_out: bool


@dataclass(frozen=True)
class Album:
    """Stamps and their pictures, each (h, w, 4) uint8 with sides of at most 96."""

    stamps: tuple[Stamp, ...]
    pictures: tuple[np.ndarray, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(sorted({stamp.group for stamp in self.stamps}))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({stamp.name for stamp in self.stamps if stamp.name}))

    def chosen(self, held_out: bool, group: str | None = None, named: bool = False) -> list[int]:
        """Numbers of the stamps. named: only those whose name is asked for."""
        return [
            number
            for number, stamp in enumerate(self.stamps)
            if stamp.held_out == held_out and group in (None, stamp.group) and (stamp.name is not None or not named)
        ]


def fetch(folder: Path) -> Path:
    """The folder of stamps, unpacked below `folder` from Debian's package. Raises OptionError where there is none."""
    place = folder / INSTALLED
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        try:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=work, check=True, capture_output=True)
            (package,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            hint = f"unpack the package {PACKAGE} elsewhere and name its folder `stamps` with --stamps"
            raise OptionError(
                f"the package {PACKAGE} cannot be had", f"apt-get or dpkg-deb failed: {error}", hint
            ) from error
    return place


def read_album(place: Path, kept: Path) -> Album:
    """The stamps of a folder; what is known of each, and small pictures, are kept in `kept`. Raises OptionError."""
    index, pictures = kept / "stamps.json", kept / "stamps.npz"
    if not index.exists():
        album = _album(place)
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(pictures, *album.pictures)
        index.write_text(json.dumps([asdict(stamp) for stamp in album.stamps], indent=1), encoding="utf-8")
    stamps = tuple(Stamp(**row) for row in json.loads(index.read_text(encoding="utf-8")))
    with np.load(pictures) as held:
        return Album(stamps, tuple(held[f"arr_{number}"] for number in range(len(stamps))))


def _album(place: Path) -> Album:
    found = list(_found(place))
    if not found:
        raise OptionError(
            f"{place} holds no stamps", "a stamp is a PNG below a folder such as animals/birds, with a .txt"
        )
    named = _asked_for([(file, group, name) for file, group, name, _ in found])
    held = _kept(found, named)
    stamps = tuple(
        Stamp(file, group, name if file in named else None, colour_of(picture), file in held)
        for file, group, name, picture in found
    )
    return Album(stamps, tuple(picture for *_, picture in found))


def _found(place: Path) -> Iterator[tuple[str, str, str | None, np.ndarray]]:
    """File, group, one-word name and picture of each stamp that has a group."""
    for path in sorted(place.rglob("*.png")):
        file = path.relative_to(place).as_posix()
        group = next((word for start, word in GROUPS.items() if file.startswith(f"{start}/")), None)
        text = path.with_suffix(".txt")
        if group is None or not text.exists():
            continue
        caption = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        named = NAME.fullmatch(caption)
        with Image.open(path) as picture:
            small = picture.convert("RGBA")
        small.thumbnail((LARGEST, LARGEST))
        yield file, group, named[1] if named else None, np.asarray(small)


def _asked_for(found: Sequence[tuple[str, str, str | None]]) -> set[str]:
    """Files of the names that are asked for: of each group in turn, in an order that says nothing."""
    queues: dict[str, list[str]] = {}
    for file, group, name in sorted(found, key=lambda row: _lot(row[0])):
        if name is not None and name not in GROUPS.values():
            queues.setdefault(group, []).append(file)
    chosen: list[str] = []
    names = {file: name for file, _, name in found}
    while len({names[file] for file in chosen}) < NAMES and any(queues.values()):
        for group in sorted(queues):
            if queues[group]:
                chosen.append(queues[group].pop(0))
    return set(chosen)


def _kept(found: Sequence[tuple[str, str, str | None, np.ndarray]], named: set[str]) -> set[str]:
    """Of each group's other stamps one in five, two at least where there are six."""
    groups: dict[str, list[str]] = {}
    for file, group, *_ in found:
        if file not in named:
            groups.setdefault(group, []).append(file)
    return {file for files in groups.values() for file in sorted(files, key=_lot)[::KEPT]}


def _lot(file: str) -> str:
    return hashlib.sha256(file.encode()).hexdigest()


def colour_of(picture: np.ndarray) -> str | None:
    """The colour that most of a stamp has, None where it has several. picture: (h, w, 4) uint8."""
    seen = picture[picture[..., 3] > 128][:, :3].astype(np.float32) / 255
    if not len(seen):
        return None
    value, low = seen.max(1), seen.min(1)
    spread = np.maximum(value - low, 1e-6)
    red, green, blue = seen.T
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / spread % 6, (blue - red) / spread + 2],
        (red - green) / spread + 4,
    )
    names = np.full(len(seen), "red", dtype="<U8")
    for upper, colour in reversed(HUES):
        names[hue * 60 < upper] = colour
    names[(names == "orange") & (value < BROWN) | (names == "red") & (value < BROWN) & (hue * 60 > 5) & (hue < 1)] = (
        "brown"
    )
    grey = spread < PALE * np.maximum(value, 1e-6)
    names[grey] = np.where(value[grey] > BRIGHT, "white", "grey")
    names[value < DARK] = "black"
    kinds, counts = np.unique(names, return_counts=True)
    return str(kinds[counts.argmax()]) if counts.max() >= CLEAR * len(names) else None
