"""Names of methods and model families and where each lives. Nothing is imported before it is asked for.

Other packages add to both through the entry points `framefusion.methods` and `framefusion.models`.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError, PluginError, UnknownNameError
from framefusion.core.options import options_of, shown

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.models.family import Family

# Either word means the budget of any method.
BUDGETS = ("cost", "keep")

# What `evaluate` and `run` take unless told otherwise: the method that docs/evaluate.md finds ahead of the others.
RECOMMENDED = "temporal_ward"

METHODS: Mapping[str, str] = {
    "framefusion": "framefusion.methods.framefusion:FrameFusion",
    "adaptprune": "framefusion.methods.adaptprune:AdaptPrune",
    "adsc": "framefusion.methods.adsc:ADSC",
    "aot": "framefusion.methods.aot:AOT",
    "cdpruner": "framefusion.methods.cdpruner:CDPruner",
    "dart": "framefusion.methods.dart:DART",
    "divprune": "framefusion.methods.divprune:DivPrune",
    "dycoke": "framefusion.methods.dycoke:DyCoke",
    "evs": "framefusion.methods.evs:EVS",
    "fastervlm": "framefusion.methods.fastervlm:FasterVLM",
    "fastv": "framefusion.methods.fastv:FastV",
    "fastvid": "framefusion.methods.fastvid:FastVID",
    "flashvid": "framefusion.methods.flashvid:FlashVID",
    "frame_sample": "framefusion.methods.frame_sample:FrameSample",
    "holitom": "framefusion.methods.holitom:HoliTom",
    "holitom_outer": "framefusion.methods.holitom_outer:HoliTomOuter",
    "holov": "framefusion.methods.holov:HoloV",
    "ipcv": "framefusion.methods.ipcv:IPCV",
    "pixel_dedup": "framefusion.methods.pixel_dedup:PixelDedup",
    "prumerge": "framefusion.methods.prumerge:PruMerge",
    "prumerge_plus": "framefusion.methods.prumerge:PruMergePlus",
    "prunevid": "framefusion.methods.prunevid:PruneVid",
    "pyramiddrop": "framefusion.methods.pyramiddrop:PyramidDrop",
    "random": "framefusion.methods.random:Random",
    "scissor": "framefusion.methods.scissor:Scissor",
    "sparsevlm": "framefusion.methods.sparsevlm:SparseVLM",
    "spatial_pool": "framefusion.methods.spatial_pool:SpatialPool",
    "sttm": "framefusion.methods.sttm:STTM",
    "taylor_frames": "framefusion.methods.taylor_frames:TaylorFrames",
    "temporal_ward": "framefusion.methods.temporal_ward:TemporalWard",
    "tome": "framefusion.methods.tome:ToMe",
    "trimtokenator": "framefusion.methods.trimtokenator:TrimTokenator",
    "unicomp": "framefusion.methods.unicomp:UniComp",
    "uniform": "framefusion.methods.uniform:Uniform",
    "vidcom2": "framefusion.methods.vidcom2:VidCom2",
    "visionzip": "framefusion.methods.visionzip:VisionZip",
    "vispruner": "framefusion.methods.vispruner:VisPruner",
    "vqtoken_base": "framefusion.methods.vqtoken_base:VQTokenBase",
}

# Methods with weights of their own, which need them before they can run.
LEARNED: Mapping[str, str] = {
    "atp_llava": "framefusion.methods.atp_llava:ATPLLaVA",
    "llava_mini": "framefusion.methods.llava_mini:LLaVAMini",
    "pvc": "framefusion.methods.pvc:PVC",
    "vqtoken": "framefusion.methods.vqtoken:VQToken",
}

SHORT: Mapping[str, str] = {"atp": "atp_llava"}
"""Names that tables of papers use for methods of longer ones."""


class Registry:
    """A table of names, read-only, open to entry points of group `group`.

    broken: the names that `loaded` left out, and why.
    """

    def __init__(self, noun: str, group: str, table: Mapping[str, str]) -> None:
        self.noun, self.group, self._table = noun, group, table
        self.broken: dict[str, PluginError] = {}

    def names(self) -> list[str]:
        return sorted({*self._table, *(entry.name for entry in entry_points(group=self.group))})

    def __contains__(self, name: str) -> bool:
        # Looking for entry points reads the metadata of every package: not for a name of the table.
        return name in self._table or name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def load(self, name: str) -> Any:
        """The object behind `name`. Raises UnknownNameError with the nearest names, PluginError for a broken plugin."""
        if not isinstance(name, str):
            raise UnknownNameError(f"a {self.noun} is chosen by its name, got {shown(name)}")
        if name in self._table:
            module, _, attribute = self._table[name].partition(":")
            return getattr(import_module(module), attribute)
        for entry in entry_points(group=self.group):
            if entry.name == name:
                return self._load_plugin(entry)
        begun = [known for known in self.names() if name and known.startswith(name)]
        near = begun[:3] or difflib.get_close_matches(name, self.names(), n=3, cutoff=0.4)
        raise UnknownNameError(
            f"there is no {self.noun} named `{name}`",
            hint=f"did you mean {' or '.join(f'`{n}`' for n in near)}?"
            if near
            else f"known: {', '.join(self.names())}",
        )

    def loaded(self) -> Iterator[tuple[str, Any]]:
        """All names with what is behind them, but those that are `broken`."""
        self.broken.clear()
        for name in self.names():
            try:
                found = self.load(name)
            except PluginError as error:
                self.broken[name] = error
                continue
            yield name, found

    def _load_plugin(self, entry: EntryPoint) -> Any:
        found, why = self.attempt(entry.load, f"{entry.value} is no {self.noun}")
        if why:
            package = entry.dist.name if entry.dist else "another package"
            raise PluginError(
                f"the {self.noun} `{entry.name}` of {package} cannot be loaded",
                why,
                "install a release of it that fits, or remove it",
            )
        return found

    def attempt(self, load: Callable[[], Any], otherwise: str) -> tuple[Any, str]:
        """What `load` finds in a module of somebody else, and why it cannot be used: `otherwise` if it does not fit."""
        try:
            found = load()
            return found, "" if self.fits(found) else otherwise
        except Exception as error:  # a module of somebody else
            return None, f"{type(error).__name__}: {error}"

    def fits(self, found: Any) -> bool:
        """Whether `found` is what this registry names."""
        from framefusion.core.method import Method

        return isinstance(found, type) and issubclass(found, Method) and is_dataclass(found) and hasattr(found, "facts")


class FamilyRegistry(Registry):
    """Every `Family` that a file of `framefusion/models/` names, found when the first one is asked for."""

    def __init__(self) -> None:
        super().__init__("model family", "framefusion.models", {})
        self._found: dict[str, Family] | None = None

    @property
    def found(self) -> dict[str, Family]:
        if self._found is None:
            self._found = dict(_families_in_files())
        return self._found

    def forget(self) -> None:
        """Look at the files again when next asked."""
        self._found = None

    def names(self) -> list[str]:
        return sorted({*self.found, *super().names()})

    def __contains__(self, name: str) -> bool:
        return name in self.found or super().__contains__(name)

    def load(self, name: str) -> Family:
        return self.found[name] if name in self.found else super().load(name)

    def fits(self, found: Any) -> bool:
        from framefusion.models.family import Family

        return isinstance(found, Family)


def _families_in_files() -> Iterator[tuple[str, Family]]:
    from framefusion import models
    from framefusion.models.family import Family

    for info in pkgutil.iter_modules(models.__path__, models.__name__ + "."):
        for value in vars(import_module(info.name)).values():
            if isinstance(value, Family):
                yield value.name, value


methods = Registry("method", "framefusion.methods", METHODS)
learned = Registry("learned reducer", "framefusion.reducers", LEARNED)
families = FamilyRegistry()


def method(name: str) -> type[Method]:
    """The class of a method by its name. Raises as `Registry.load`."""
    if isinstance(name, str):
        name = SHORT.get(name, name)
    # Names of the package's own first, see `Registry.__contains__`.
    is_learned = isinstance(name, str) and name not in METHODS and (name in learned or _begins_learned(name))
    return (learned if is_learned else methods).load(name)


def _begins_learned(name: str) -> bool:
    """Whether a name that nobody has begins that of a learned reducer, and of no other method."""
    return (
        bool(name)
        and any(known.startswith(name) for known in LEARNED)
        and not any(known.startswith(name) for known in methods)
    )


def method_at(reference: str) -> type[Method]:
    """The class behind `package.module:Class`, which is imported. Only for references that the user wrote.

    Raises PluginError where there is no such class, or none that is a method.
    """
    module, _, attribute = reference.partition(":")
    otherwise = f"{attribute} is no frozen dataclass derived from Method that has `facts`"
    found, why = methods.attempt(lambda: getattr(import_module(module), attribute), otherwise)
    if why:
        hint = "write package.module:Class for a class that Python can import from here"
        raise PluginError(f"there is no method at `{reference}`", why, hint)
    return found


def configure(chosen: str | type[Method], options: Mapping[str, Any]) -> Method:
    """A method, or the one of this name, with these options; `cost` and `keep` stand for its budget, whatever its name.

    Raises UnknownNameError for the name and OptionError for an option the method does not have or a value it refuses.
    """
    cls = chosen if isinstance(chosen, type) else method(chosen)
    try:
        return cls(**_filled(cls, options))
    except TypeError as error:
        raise OptionError(f"the method `{cls.facts.name}` does not take these settings", str(error)) from error


def changed(chosen: Method, options: Mapping[str, Any]) -> Method:
    """`chosen` with these options and else as it is, weights included; names and errors are those of `configure`."""
    return replace(chosen, **_filled(type(chosen), options))  # type: ignore[type-var]


def _filled(cls: type[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` under their own names. Raises OptionError for an unknown one, and for two names of one."""
    filled: dict[str, Any] = {}
    for key, value in options.items():
        option = _option_of(cls, key)
        if option in filled:
            raise OptionError(f"`{key}` and another option both set `{option}` of the method `{cls.facts.name}`")
        filled[option] = value
    return filled


def read(chosen: str | type[Method], words: Mapping[str, str]) -> dict[str, Any]:
    """Options for `configure` from words on a command line. Raises UnknownNameError and OptionError."""
    cls = chosen if isinstance(chosen, type) else method(chosen)
    return {key: options_of(cls)[_option_of(cls, key)].read(word) for key, word in words.items()}


def _option_of(cls: type[Method], key: str) -> str:
    known = options_of(cls)
    option = cls.facts.budget if key in BUDGETS and key not in known else key
    if option not in known:
        raise OptionError(f"the method `{cls.facts.name}` has no option `{key}`", hint=f"it has: {', '.join(known)}")
    return option


def describe(name: str) -> dict[str, Any]:
    """Facts of a method, its options with their defaults, and under "declared" what each of them takes."""
    cls = method(name)
    declared = {option: declaration.to_dict() for option, declaration in options_of(cls).items()}
    options = {option: declaration.get("default") for option, declaration in declared.items()}
    trained = bool(getattr(cls, "trained", False))
    return {**asdict(cls.facts), "trained": trained, "needs": _needs(cls), "options": options, "declared": declared}


def _needs(cls: type[Method]) -> tuple[str, ...]:
    """Signals that the stages ask for at the default options; none for a method that cannot be made without options."""
    try:
        return tuple(sorted(cls().needs() | getattr(cls, "uses", frozenset())))
    except (TypeError, OptionError):
        return ()


def list_methods() -> list[dict[str, Any]]:
    """Facts and options of every method, as `framefusion methods --json` prints them.

    Methods of other packages that declare an entry point in the group `framefusion.methods` are among them, but for
    those that cannot be loaded.

    Returns:
        One mapping for each method, by name: "name", "title", "paper", "summary" and the other fields of its facts;
        "trained" tells methods with weights of their own, which `load_reducer` reads; "options" has the default of each
        option, "declared" what it takes.

    Example:
        >>> import framefusion as ff
        >>> found = {facts["name"]: facts for facts in ff.list_methods()}
        >>> found["fastv"]["options"]
        {'keep': 0.5, 'layer': 2}
        >>> found["fastv"]["declared"]["keep"]["accepts"]
        'a fraction in (0, 1] or a count of at least 1'
    """
    return [describe(name) for registry in (methods, learned) for name, _ in registry.loaded()]


def family_of_config(config: Any) -> Family:
    """The family of a configuration, with the threshold it carries."""
    return family_of(getattr(config, "model_type", None)).with_threshold_of(config)


def family_of(model_type: str | None) -> Family:
    """The family of a configuration's `model_type`; families nobody names share one generic rule."""
    if model_type is not None and model_type in families:
        return families.load(model_type)
    from framefusion.models.default import by_default
    from framefusion.models.family import Family

    return Family(model_type or "text", by_default)
