"""Where transformers' server is taken hold of: a model that is loaded, a request that is read, an error that is told.

The server answers one request at a time with each model, on one thread, so a request's reduction is put into the model
for its call of `generate` and taken out again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import FrameFusionError
from framefusion.integrations.transformers_serve.clips import apply_template
from framefusion.integrations.transformers_serve.metrics import TYPE, Counters
from framefusion.integrations.transformers_serve.wish import KEY, Wish, read_wish
from framefusion.models.placeholders import placeholder_ids

if TYPE_CHECKING:
    from framefusion.core.method import Method

WISH = "_framefusion_wish"
SERVED = "_framefusion_served"


class RequestError(FrameFusionError):
    """An error in the middle of an answer. As a string it fits into the JSON string that the server writes it into."""

    def __str__(self) -> str:
        return json.dumps(" ".join("\n".join((self.what, self.why, self.hint)).split()))[1:-1]


@contextmanager
def hooked(method: Method | None, name: str, place: str, frames: int) -> Iterator[None]:
    """Inside, servers of this process reduce by `method` what they load.

    name: what clients may call the model. place: what the server calls it. frames: of a video, at most.
    """
    from transformers.cli.serving import server, utils
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.utils import BaseHandler

    counters = Counters()
    made: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (ModelManager, "load_model_and_processor", partial(_loading, method, counters)),
        (BaseHandler, "_validate_request", partial(_validating, method, name, place, frames)),
        (BaseHandler, "_build_generation_config", partial(_configuring, method)),
        (server, "build_server", partial(_telling, counters)),
        (utils, "get_response_template", _parsing),
    )
    before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in made]
    try:
        for (owner, attribute, stock), (_, _, hook) in zip(before, made, strict=True):
            setattr(owner, attribute, wraps(stock)(hook(stock)))
        yield
    finally:
        for owner, attribute, stock in before:
            setattr(owner, attribute, stock)


def _loading(method: Method | None, counters: Counters, stock: Callable[..., Any]) -> Callable[..., Any]:
    def load(*args: Any, **kwargs: Any) -> Any:
        model, processor = stock(*args, **kwargs)
        if not hasattr(model, SERVED):
            setattr(model, SERVED, prepare(model, processor, method, counters))
        return getattr(model, SERVED), processor

    return load


class Served:
    """A model as the server sees it: the same but for `generate`.

    The model's own attribute would not do: while one request is answered a reduction stands there, and the server takes
    `generate` for the next request in another thread.
    """

    def __init__(self, model: Any, generate: Callable[..., Any]) -> None:
        self._model, self.generate = model, generate

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._model)


def prepare(model: Any, processor: Any, method: Method | None, counters: Counters) -> Served:
    """A loaded model that answers each request as it wishes. Raises UnsupportedModelError."""
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.answer.frame_size import ProcessorResize
    from framefusion.inference.answer.prompt import takes_video
    from framefusion.inference.reduction import reduce

    checkpoint = Checkpoint(str(model.name_or_path), model.eval(), processor)
    if method is not None:
        reduce(model, method, processor=processor).remove()

    def generate(*args: Any, **kwargs: Any) -> Any:
        wish: Wish = vars(kwargs.get("generation_config") or model.generation_config).pop(WISH, Wish(method))
        if wish.method is None:
            whole = _placeholders(model, kwargs.get("input_ids"))
            counters.add(whole, whole)
            return model.generate(*args, **kwargs)
        frames = wish.clip and not takes_video(checkpoint)
        try:
            with reduce(model, wish.method, pictures_are_frames=frames, processor=processor) as reduction:
                answer = model.generate(*args, **kwargs)
            counters.add(reduction.report.visual_tokens, reduction.report.kept_tokens)
            return answer
        except FrameFusionError as error:
            raise RequestError(error.what, error.why, error.hint) from error

    if hasattr(processor, "tokenizer"):
        resize = ProcessorResize.of(checkpoint)  # which asks the stock template
        processor.apply_chat_template = partial(apply_template, checkpoint, resize, processor.apply_chat_template)
    return Served(model, generate)


def _placeholders(model: Any, ids: Any) -> int:
    """Visual tokens of a prompt that nothing reduces."""
    known = torch.tensor(placeholder_ids(model.config))
    return 0 if ids is None else int(torch.isin(ids, known.to(ids.device)).sum())


def _validating(
    method: Method | None, name: str, place: str, frames: int, stock: Callable[..., Any]
) -> Callable[..., Any]:
    def validate(handler: Any, body: Any) -> Any:
        result = stock(handler, {key: value for key, value in body.items() if key != KEY})
        if read_wish(body, method).clip:
            body["chat_template_kwargs"] = {"num_frames": frames, **(body.get("chat_template_kwargs") or {})}
        if body.get("model") == name:
            body["model"] = place
        return result

    return validate


def _configuring(method: Method | None, stock: Callable[..., Any]) -> Callable[..., Any]:
    def build(handler: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        config = stock(handler, body, *args, **kwargs)
        setattr(config, WISH, read_wish(body, method))
        return config

    return build


def _parsing(stock: Callable[..., Any]) -> Callable[..., Any]:
    """The server cuts an answer out of prompt and answer by marks of the family. A tokenizer that writes those in
    another way would have it return the prompt as well; its answers are taken as they are decoded."""

    def template(processor: Any, model: Any) -> Any:
        found = stock(processor, model)
        anchors = (found or {}).get("start_anchor") or ()
        tokenizer = getattr(processor, "tokenizer", processor)
        written = [anchors] if isinstance(anchors, str) else anchors
        kept = [tokenizer.decode(tokenizer(one, add_special_tokens=False)["input_ids"]) for one in written]
        return found if all(one in text for one, text in zip(written, kept, strict=True)) else None

    return template


def _telling(counters: Counters, stock: Callable[..., Any]) -> Callable[..., Any]:
    def build(*args: Any, **kwargs: Any) -> Any:
        from fastapi.responses import JSONResponse, Response

        async def tell(request: Any, error: FrameFusionError) -> Any:
            said = {"message": error.what, "type": "invalid_request_error", "why": error.why, "hint": error.hint}
            return JSONResponse({"error": said}, status_code=400)

        app = stock(*args, **kwargs)
        app.add_exception_handler(FrameFusionError, tell)
        app.add_api_route("/metrics", lambda: Response(counters.page(), media_type=TYPE))
        return app

    return build
