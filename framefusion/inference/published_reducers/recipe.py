"""How a published checkpoint becomes a stock model and a reducer: one path, and what differs from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import OptionError
from framefusion.core.learned import Weights
from framefusion.core.registry import family_of_config
from framefusion.engine.model.parts import find_parts
from framefusion.engine.model.shape import shape_of
from framefusion.inference.answer.checkpoint import Checkpoint, check_stored, options_of, placed
from framefusion.inference.answer.foreign import reading, refused
from framefusion.inference.answer.quiet import without_chatter
from framefusion.inference.answer.settings import forget_code_of_parts
from framefusion.inference.answer.weights import check_loaded, check_size
from framefusion.inference.llava_video.configuration import TEXT_KEYS
from framefusion.inference.llava_video.modeling import RENAMED
from framefusion.inference.published_reducers.stored import Stored, filled, renamed, sizes

if TYPE_CHECKING:
    from framefusion.core.learned import LearnedMethod

CONFIGURATION = "its configuration"
TOWER, INSIDE = "model.vision_tower.", "model.vision_tower.vision_tower.vision_model."
# Names in a stock model -> published names, which both checkpoints have from LLaVA.
published_model = renamed(
    (
        (f"{TOWER}vision_model.", INSIDE),
        (TOWER, INSIDE),
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("model.language_model.", "model."),
    )
)


@dataclass(frozen=True)
class Recipe:
    """What is special about one checkpoint.

    title: of the system. wanted: values that settings may have. placeholders: those that the tokenizer gets, by their
    names in the configuration. model: class of transformers. configured: settings -> its configuration. processor:
    (configuration, tokenizer) -> it. method: (settings, configuration) -> the reducer without weights. published: name
    in the reducer -> published name. optional: whether a weight of the model may be missing or there.
    """

    title: str
    wanted: Mapping[str, tuple[Any, ...]]
    placeholders: Mapping[str, str]
    model: Any
    configured: Callable[[Mapping[str, Any]], Any]
    processor: Callable[[Any, Any], Any]
    method: Callable[[Mapping[str, Any], Any], LearnedMethod]
    published: Callable[[str], str]
    optional: Callable[[str], bool] = lambda name: False


def load(
    name: str, recipe: Recipe, dtype: str, device: str | None, attention: str | None
) -> tuple[Checkpoint, LearnedMethod]:
    """Model with processor, and the reducer with its weights. dtype, device, attention: as for `load_checkpoint`."""
    with without_chatter():
        settings = check_stored(name)
        _check_settings(name, recipe, settings)
        with reading(name, CONFIGURATION):
            config = recipe.configured(settings)
            forget_code_of_parts(config)
        with reading(name, "its tokenizer"):
            tokenizer = _tokenizer(name, recipe, config)
            processor = recipe.processor(config, tokenizer)
        method = _method(name, recipe, settings, config)
        stored = Stored.of(name, settings)
        _check_weights(recipe, config, method, stored)
        check_size(name, lambda: recipe.model(config), settings)
        with reading(name, "its model"):
            model, found = recipe.model.from_pretrained(
                name,
                config=config,
                key_mapping=RENAMED,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options_of(dtype, device, attention),
            )
        found["missing_keys"] = [key for key in found["missing_keys"] if not recipe.optional(published_model(key))]
        check_loaded(name, found)
        assert method.weights is not None
        module = filled(method.weights.module, stored, recipe.published, model.dtype)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = placed(name, model, device)
    weights = Weights(module.to(model.device), method.weights.shape)
    return Checkpoint(name, model.eval(), processor), replace(method, weights=weights)


def _check_settings(name: str, recipe: Recipe, settings: Mapping[str, Any]) -> None:
    for key, values in recipe.wanted.items():
        if settings.get(key) not in values:
            why = f"its configuration has {key} = {settings.get(key)!r}; {recipe.title} has {values[-1]!r}"
            raise refused(name, why, f"give a checkpoint of {recipe.title} in the format it was published in")
    if not isinstance(settings.get("mm_vision_tower"), str):
        why = f"its configuration has mm_vision_tower = {settings.get('mm_vision_tower')!r}, which is no name"
        raise refused(name, why, f"give a checkpoint of {recipe.title} in the format it was published in")


def _tokenizer(name: str, recipe: Recipe, config: Any) -> Any:
    """The checkpoint's, with the placeholders, which the original writes without a tokenizer; ids go to `config`."""
    from transformers import AutoTokenizer, PreTrainedConfig

    # Given a configuration, the tokenizer's loader does not look for one of a model type that it knows.
    tokenizer = AutoTokenizer.from_pretrained(name, config=PreTrainedConfig())
    tokenizer.add_tokens(list(recipe.placeholders.values()), special_tokens=True)
    tokenizer.padding_side = "left"
    for key, token in recipe.placeholders.items():
        setattr(config, key, tokenizer.convert_tokens_to_ids(token))
    return tokenizer


def _method(name: str, recipe: Recipe, settings: Mapping[str, Any], config: Any) -> LearnedMethod:
    """The reducer with a module on the meta device."""
    import torch

    with reading(name, CONFIGURATION), torch.device("meta"):
        shape = shape_of(find_parts(recipe.model(config)), family_of_config(config))
        try:
            method = recipe.method(settings, config)
            return replace(method, weights=Weights(method.build(shape), shape))
        except OptionError as error:
            raise refused(name, f"config.json: {error.what}", error.hint) from error


def _check_weights(recipe: Recipe, config: Any, method: LearnedMethod, stored: Stored) -> None:
    import torch

    assert method.weights is not None
    with torch.device("meta"):
        model = recipe.model(config)
    wanted = sizes(model, published_model) | sizes(method.weights.module, recipe.published)
    tied = config.text_config.tie_word_embeddings or config.tie_word_embeddings
    stored.check(wanted, lambda key: recipe.optional(key) or (bool(tied) and key == "lm_head.weight"))


def text_settings(settings: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """What a flat config.json says of the text model. more: keys beyond Qwen2's."""
    return {key: settings[key] for key in (*TEXT_KEYS, *more) if settings.get(key) is not None}
