"""A model family as data: where its visual tokens are and what is known about it. Most families need no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout

Rule = Callable[[Any, Mapping[str, Any], "Tensor"], "Layout"]
"""(config, the model's inputs, token ids (B, L)) -> layout of the batch."""


@dataclass(frozen=True)
class Family:
    """What a family states about itself.

    name: the `model_type` of its configuration, or a name of its own for generic families.
    layout: rule that finds geometry and placement of the visual tokens.
    similarity_lower_bound: FrameFusion's threshold published for this family, None where none was.
    published_query_rows: query rows the published FrameFusion adapter averages for pruning.
    video_as_images: the family has no video input; frames of a clip are given as consecutive images.
    tested: its whole path runs in this project's tests; False for families whose checkpoints bring their own code.
    """

    name: str
    layout: Rule
    similarity_lower_bound: float | None = None
    published_query_rows: int = 1
    video_as_images: bool = False
    tested: bool = True

    def takes_clips_as_pictures(self, config: Any) -> bool:
        """Whether a clip is shown as a series of pictures, for want of a placeholder of videos."""
        from framefusion.models.default import by_default
        from framefusion.models.placeholders import video_token

        return self.video_as_images or (self.layout is by_default and video_token(config) is None)

    def with_pictures_as_frames(self, wanted: bool = True) -> Family:
        """The family as it reads prompts whose neighbouring pictures of one size are the frames of a clip."""
        if not wanted:
            return self
        rule = self.layout
        return replace(self, layout=lambda config, inputs, ids: rule(config, inputs, ids).with_pictures_as_frames())

    def with_threshold_of(self, config: Any) -> Family:
        """With the threshold that a checkpoint carries in its configuration, `framefusion.similarity_lower_bound`.

        Raises CheckpointError where that is no cosine.
        """
        carried = getattr(config, "framefusion", None)
        if carried is None or (isinstance(carried, Mapping) and "similarity_lower_bound" not in carried):
            return self
        threshold = carried["similarity_lower_bound"] if isinstance(carried, Mapping) else carried
        number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not isinstance(carried, Mapping) or not number or not -1.0 <= threshold <= 1.0:
            raise CheckpointError(
                "the configuration of this model carries no threshold that can be used",
                f"framefusion.similarity_lower_bound is {threshold!r}, not a cosine between -1 and 1",
                "write one that `framefusion analyze` computed, or take the entry out of config.json",
            )
        return replace(self, similarity_lower_bound=float(threshold))
