"""What lmms-eval learns about this package, through the entry point `lmms_eval.models`.

lmms-eval reads it at every start, and an exception here would also hide the plugins after ours: no heavy import.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from framefusion.core.errors import UnknownNameError

SUFFIX = "_framefusion"
ROOM = "framefusion.integrations.lmms.wrappers"
ANY_CHECKPOINT = "framefusion.integrations.lmms.any_checkpoint:AnyCheckpoint"


@dataclass(frozen=True)
class Wrapper:
    """One model of lmms-eval that can be reduced.

    builtin: lmms-eval's own id; ours is that with `_framefusion`. chat, simple: its class for tasks that send messages,
    and the one for tasks that send a text and pictures, as "module:Class"; None where lmms-eval has none.
    also: other ids of lmms-eval that lead here, because their own class needs a package which transformers 5 replaced.
    reads: attributes of a class that hands paths of videos to its processor: that processor, and the frames to read.
    """

    builtin: str
    chat: str | None
    simple: str | None = None
    also: tuple[str, ...] = ()
    reads: tuple[str, str] | None = None

    @property
    def model_id(self) -> str:
        return self.builtin if self.builtin.startswith("framefusion") else self.builtin + SUFFIX

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(name + SUFFIX for name in self.also)

    def class_name(self, kind: str) -> str:
        """Name under which `wrappers` makes the class. kind: "chat" or "simple"."""
        return f"{self.builtin}_{kind}"


WRAPPERS = (
    Wrapper("qwen2_vl", None, "lmms_eval.models.simple.qwen2_vl:Qwen2_VL"),
    Wrapper(
        "qwen2_5_vl", "lmms_eval.models.chat.qwen2_5_vl:Qwen2_5_VL", "lmms_eval.models.simple.qwen2_5_vl:Qwen2_5_VL"
    ),
    Wrapper("qwen3_vl", "lmms_eval.models.chat.qwen3_vl:Qwen3_VL", "lmms_eval.models.simple.qwen3_vl:Qwen3_VL"),
    Wrapper(
        "llava_hf",
        "lmms_eval.models.chat.llava_hf:LlavaHf",
        "lmms_eval.models.simple.llava_hf:LlavaHf",
        also=("llava_onevision",),
        reads=("_image_processor", "max_frames_num"),
    ),
    Wrapper(
        "internvl_hf",
        "lmms_eval.models.chat.internvl_hf:InternVLHf",
        also=("internvl3", "internvl3_5"),
        reads=("processor", "num_frames"),
    ),
    Wrapper("framefusion_hf", ANY_CHECKPOINT, also=("llava_vid",)),
)


def manifests() -> list[Any]:
    """The payload of the entry point: one `ModelManifest` per wrapper.

    Never raises: an exception here would stop benchmarks that have nothing to do with this package. A release of
    lmms-eval that knows no such manifest gets none.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest

        return _manifests(ModelManifest)
    except Exception as error:
        logging.getLogger(__name__).warning("framefusion adds no models to this lmms-eval: %s", error)
        return []


def _manifests(manifest: type) -> list[Any]:
    return [
        manifest(
            model_id=wrapper.model_id,
            chat_class_path=f"{ROOM}.{wrapper.class_name('chat')}" if wrapper.chat else None,
            simple_class_path=f"{ROOM}.{wrapper.class_name('simple')}" if wrapper.simple else None,
            aliases=wrapper.aliases,
        )
        for wrapper in WRAPPERS
    ]


def find(name: str) -> tuple[Wrapper, str]:
    """The wrapper behind lmms-eval's id or ours, and lmms-eval's id: prompts of a task may depend on it.

    Raises UnknownNameError.
    """
    builtin = name.removesuffix(SUFFIX)
    for wrapper in WRAPPERS:
        if builtin in (wrapper.builtin, *wrapper.also):
            return wrapper, builtin
    known = sorted(id for wrapper in WRAPPERS for id in (wrapper.builtin, *wrapper.also))
    raise UnknownNameError(f"there is no reduced lmms-eval model named `{name}`", hint=f"known: {', '.join(known)}")
