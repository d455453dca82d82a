"""FrameFusion: any Hugging Face vision-language model reads far fewer visual tokens, by one reversible call.

    import framefusion as ff

    with ff.reduce(model, ff.FrameFusion(cost=0.3)) as reduction:
        output = model.generate(**inputs, max_new_tokens=64)
    print(reduction.report)

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from framefusion.core.former_modules import FORMER, FormerModules

if TYPE_CHECKING:
    # Imports: written by `python -m scripts.public_interface`.
    from framefusion.core.errors import FrameFusionError as FrameFusionError
    from framefusion.core.layout import Geometry as Geometry
    from framefusion.core.layout import Layout as Layout
    from framefusion.core.method import Method as Method
    from framefusion.core.method import MethodFacts as MethodFacts
    from framefusion.core.plan import Plan as Plan
    from framefusion.core.registry import list_methods as list_methods
    from framefusion.core.scored import BudgetedMethod as BudgetedMethod
    from framefusion.core.scored import ScoredMethod as ScoredMethod
    from framefusion.core.scored import SelectingMethod as SelectingMethod
    from framefusion.core.signals import Signals as Signals
    from framefusion.evaluation.calibration import calibrate as calibrate
    from framefusion.evaluation.comparison import evaluate as evaluate
    from framefusion.evaluation.result import Evaluation as Evaluation
    from framefusion.inference.answer.checkpoint import Checkpoint as Checkpoint
    from framefusion.inference.answer.checkpoint import load_checkpoint as load_checkpoint
    from framefusion.inference.reducer.load import load_reducer as load_reducer
    from framefusion.inference.reduction import Reduction as Reduction
    from framefusion.inference.reduction import reduce as reduce
    from framefusion.inference.report import Report as Report
    from framefusion.inference.session import Session as Session
    from framefusion.inference.session import load as load
    from framefusion.inference.stream.session import VideoStream as VideoStream
    from framefusion.inference.stream.session import stream as stream
    from framefusion.inference.stream.status import StreamAnswer as StreamAnswer
    from framefusion.inference.stream.status import StreamStatus as StreamStatus
    from framefusion.methods.adaptprune import AdaptPrune as AdaptPrune
    from framefusion.methods.adsc import ADSC as ADSC
    from framefusion.methods.aot import AOT as AOT
    from framefusion.methods.atp_llava import ATPLLaVA as ATPLLaVA
    from framefusion.methods.cdpruner import CDPruner as CDPruner
    from framefusion.methods.chain import Chain as Chain
    from framefusion.methods.dart import DART as DART
    from framefusion.methods.divprune import DivPrune as DivPrune
    from framefusion.methods.dycoke import DyCoke as DyCoke
    from framefusion.methods.evs import EVS as EVS
    from framefusion.methods.fastervlm import FasterVLM as FasterVLM
    from framefusion.methods.fastv import FastV as FastV
    from framefusion.methods.fastvid import FastVID as FastVID
    from framefusion.methods.flashvid import FlashVID as FlashVID
    from framefusion.methods.frame_sample import FrameSample as FrameSample
    from framefusion.methods.framefusion import FrameFusion as FrameFusion
    from framefusion.methods.holitom import HoliTom as HoliTom
    from framefusion.methods.holitom_outer import HoliTomOuter as HoliTomOuter
    from framefusion.methods.holov import HoloV as HoloV
    from framefusion.methods.ipcv import IPCV as IPCV
    from framefusion.methods.llava_mini import LLaVAMini as LLaVAMini
    from framefusion.methods.pixel_dedup import PixelDedup as PixelDedup
    from framefusion.methods.prumerge import PruMerge as PruMerge
    from framefusion.methods.prumerge import PruMergePlus as PruMergePlus
    from framefusion.methods.prunevid import PruneVid as PruneVid
    from framefusion.methods.pvc import PVC as PVC
    from framefusion.methods.pyramiddrop import PyramidDrop as PyramidDrop
    from framefusion.methods.random import Random as Random
    from framefusion.methods.scissor import Scissor as Scissor
    from framefusion.methods.sparsevlm import SparseVLM as SparseVLM
    from framefusion.methods.spatial_pool import SpatialPool as SpatialPool
    from framefusion.methods.sttm import STTM as STTM
    from framefusion.methods.taylor_frames import TaylorFrames as TaylorFrames
    from framefusion.methods.temporal_ward import TemporalWard as TemporalWard
    from framefusion.methods.tome import ToMe as ToMe
    from framefusion.methods.trimtokenator import TrimTokenator as TrimTokenator
    from framefusion.methods.unicomp import UniComp as UniComp
    from framefusion.methods.uniform import Uniform as Uniform
    from framefusion.methods.vidcom2 import VidCom2 as VidCom2
    from framefusion.methods.visionzip import VisionZip as VisionZip
    from framefusion.methods.vispruner import VisPruner as VisPruner
    from framefusion.methods.vqtoken import VQToken as VQToken
    from framefusion.methods.vqtoken_base import VQTokenBase as VQTokenBase
    from framefusion.methods.without_sinks import WithoutSinks as WithoutSinks

# Whatever is public and no method. Methods stand in the table of `registry.py`.
_NAMES = {
    "Chain": "framefusion.methods.chain",
    "Checkpoint": "framefusion.inference.answer.checkpoint",
    "Evaluation": "framefusion.evaluation.result",
    "FrameFusionError": "framefusion.core.errors",
    "Geometry": "framefusion.core.layout",
    "Layout": "framefusion.core.layout",
    "Method": "framefusion.core.method",
    "MethodFacts": "framefusion.core.method",
    "Plan": "framefusion.core.plan",
    "Reduction": "framefusion.inference.reduction",
    "Report": "framefusion.inference.report",
    "BudgetedMethod": "framefusion.core.scored",
    "ScoredMethod": "framefusion.core.scored",
    "SelectingMethod": "framefusion.core.scored",
    "Session": "framefusion.inference.session",
    "Signals": "framefusion.core.signals",
    "WithoutSinks": "framefusion.methods.without_sinks",
    "StreamAnswer": "framefusion.inference.stream.status",
    "StreamStatus": "framefusion.inference.stream.status",
    "VideoStream": "framefusion.inference.stream.session",
    "calibrate": "framefusion.evaluation.calibration",
    "evaluate": "framefusion.evaluation.comparison",
    "list_methods": "framefusion.core.registry",
    "load": "framefusion.inference.session",
    "load_checkpoint": "framefusion.inference.answer.checkpoint",
    "load_reducer": "framefusion.inference.reducer.load",
    "reduce": "framefusion.inference.reduction",
    "stream": "framefusion.inference.stream.session",
}

# Names: written by `python -m scripts.public_interface`.
__all__ = [
    "ADSC",
    "AOT",
    "DART",
    "EVS",
    "IPCV",
    "PVC",
    "STTM",
    "ATPLLaVA",
    "AdaptPrune",
    "BudgetedMethod",
    "CDPruner",
    "Chain",
    "Checkpoint",
    "DivPrune",
    "DyCoke",
    "Evaluation",
    "FastV",
    "FastVID",
    "FasterVLM",
    "FlashVID",
    "FrameFusion",
    "FrameFusionError",
    "FrameSample",
    "Geometry",
    "HoliTom",
    "HoliTomOuter",
    "HoloV",
    "LLaVAMini",
    "Layout",
    "Method",
    "MethodFacts",
    "PixelDedup",
    "Plan",
    "PruMerge",
    "PruMergePlus",
    "PruneVid",
    "PyramidDrop",
    "Random",
    "Reduction",
    "Report",
    "Scissor",
    "ScoredMethod",
    "SelectingMethod",
    "Session",
    "Signals",
    "SparseVLM",
    "SpatialPool",
    "StreamAnswer",
    "StreamStatus",
    "TaylorFrames",
    "TemporalWard",
    "ToMe",
    "TrimTokenator",
    "UniComp",
    "Uniform",
    "VQToken",
    "VQTokenBase",
    "VidCom2",
    "VideoStream",
    "VisPruner",
    "VisionZip",
    "WithoutSinks",
    "calibrate",
    "evaluate",
    "list_methods",
    "load",
    "load_checkpoint",
    "load_reducer",
    "reduce",
    "stream",
]

__version__ = "0.1.0"


# In front: the rooms of today would load a second copy of what lies in them under its former name.
sys.meta_path.insert(0, FormerModules())

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name == "methods":
            return import_module("framefusion.methods")
        places = {**_methods(), **_NAMES}
        if name in places:
            return getattr(import_module(places[name]), name)
        if f"{__name__}.{name}" in FORMER:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _methods() -> dict[str, str]:
    """Class of every method of this package -> its module."""
    from framefusion.core.registry import LEARNED, METHODS

    return {name: module for module, _, name in (path.partition(":") for path in {**METHODS, **LEARNED}.values())}
