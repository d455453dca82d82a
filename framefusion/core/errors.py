"""Every error a user can meet: what happened, why, and a hint how to go on.

All of them derive from `FrameFusionError`; the command line turns that family into one clear line and exit code 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn


class FrameFusionError(Exception):
    """Base of all errors raised on purpose by this package.

    Args:
        what: one sentence naming the thing that could not be done.
        why: the reason, or "" when the sentence says it all.
        hint: what to do instead, or "".

    Example:
        >>> try:
        ...     ff.FastV(keep=3.5)
        ... except ff.FrameFusionError as error:
        ...     print(error.what)
        keep must be a fraction in (0, 1] or a count of at least 1, got 3.5
    """

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        self.what, self.why, self.hint = what, why, hint
        parts = [part for part in (what, why) if part]
        text = "\n".join(parts) + (f"\n\nhint: {hint}" if hint else "")
        super().__init__(text)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.what, self.why, self.hint)


class OptionError(FrameFusionError, ValueError):
    """A method option or an argument is outside its range."""


class UnknownNameError(FrameFusionError, KeyError):
    """A method, model family or command name is not in its registry."""

    __str__ = FrameFusionError.__str__


class PluginError(FrameFusionError):
    """A method or a model family of another package cannot be loaded."""


class UnsupportedModelError(FrameFusionError):
    """The model has no shape this library can reduce."""


class UnsupportedReleaseError(UnsupportedModelError):
    """The installed transformers or vLLM names what a reduction relies on in another way."""


class UnsupportedPointError(OptionError):
    """A method asks for a place in the model that the model does not have."""


class MissingSignalError(FrameFusionError):
    """A method needs something of the vision tower or of attention that this model or prompt does not give."""


def missing_signal(place: str) -> Callable[..., NoReturn]:
    """What stands for a signal that there is none of at `place`: raises MissingSignalError however it is called."""

    def missing(*_: object) -> NoReturn:
        raise MissingSignalError(
            f"there is no language model {place}",
            "a stage there asked for text, attention or keys, or for what the vision tower has not computed yet",
            "let the stage act on the prompt, and name the signal in its `needs`",
        )

    return missing


class CheckpointingError(FrameFusionError):
    """Gradient checkpointing of a kind whose second run cannot find the plans of the first."""


class CompiledModelError(FrameFusionError):
    """The model was compiled before the reduction; later hooks would be ignored."""


class StaticCacheError(FrameFusionError):
    """The cache has a fixed size per layer, reduced layers have sizes of their own."""


class AssistedDecodingError(FrameFusionError):
    """Generation with drafts from the model's own first layers."""


class ChunkedPrefillError(FrameFusionError):
    """The prompt is read in several pieces."""


class ContinuousBatchingError(FrameFusionError):
    """Generation through a paged, continuously batched cache."""


class AlreadyReducedError(FrameFusionError):
    """A reduction is applied to a model that already carries one."""


class StaleCacheError(FrameFusionError):
    """A cache of a reduced prompt is used without the reduction that made it."""


class CacheCropError(FrameFusionError):
    """A cache is cropped into tokens that exist in only some of its rows, or into what it keeps packed."""


class LayoutError(FrameFusionError):
    """The visual tokens of a prompt do not match the sizes that come with it."""


class PackedRowsError(FrameFusionError):
    """A row of the batch holds several samples."""


class MissingPackageError(FrameFusionError, ImportError):
    """Something optional is asked for whose package is not installed."""


class AttentionError(FrameFusionError):
    """An attention implementation cannot compute what this model or machine asks of it."""


class RecordsError(FrameFusionError):
    """The file that keeps answers cannot be read or written, or holds something else."""


class WorkerError(FrameFusionError):
    """A process of a batch job died."""


class CheckpointError(FrameFusionError):
    """A model or its processor cannot be loaded."""


class HarnessError(FrameFusionError):
    """A benchmark harness is missing or did not finish."""


class PromptError(FrameFusionError):
    """A clip and a question cannot be turned into the inputs of a model."""


class VideoError(FrameFusionError):
    """A video cannot be read; the subclasses say why."""


class VideoNotFoundError(VideoError, FileNotFoundError):
    """There is no such file."""


class BrokenVideoError(VideoError):
    """The file is not a video, or its data is damaged."""


class NoVideoStreamError(VideoError):
    """The file holds no picture, only sound for instance."""


class EmptyVideoError(VideoError):
    """The video stream holds no frame that can be decoded."""


class PictureError(VideoError):
    """A picture, or a folder of them, cannot be read."""


class AddressError(VideoError):
    """What is at an address may not or cannot be fetched."""


class VideoTooLargeError(VideoError):
    """Decoding would take more memory than the bound allows."""
