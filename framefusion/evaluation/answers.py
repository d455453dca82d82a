"""What a question is, how it is put to a model, and which answer its words give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from framefusion.inference.video import Clip

# What may stand between the words of a choice: "red, then blue" names the choice "red blue".
BETWEEN = r"\W+(?:(?:and|then)\W+)*"
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Question(Protocol):
    """One question about one clip. `seed` and `kind` together name it."""

    @property
    def seed(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def choices(self) -> tuple[str, ...]: ...

    def clip(self) -> Clip: ...


class Yardstick(Protocol):
    """Where questions come from; the module `framefusion.evaluation.synthetic_questions` is one."""

    @property
    def KINDS(self) -> tuple[str, ...]: ...

    def samples(self, count: int, seed: int = ..., kinds: tuple[str, ...] = ...) -> Iterator[Question]:
        """`count` questions, kinds in turn, the same for the same seed."""

    def chance(self, kind: str) -> float:
        """Accuracy on `kind` without looking."""


def with_choices(question: str, choices: Sequence[str]) -> str:
    """The question for a model that has not learnt the words it may answer with."""
    return f"{question} Answer with one of: {', '.join(choices)}."


def first_named(text: str, choices: Sequence[str]) -> str | None:
    """The choice that `text` names first, as whole words in any case; None if it names none.

    Of choices that begin at the same place the longest counts ("dark blue" before "dark"), numbers may be words, and
    the words of a choice may be listed with commas, "and" or "then".
    """
    found = []
    for choice in choices:
        places = [place for form in _forms(choice) if (place := _place(text, form)) is not None]
        if places:
            found.append((min(places), -len(choice), choice))
    return min(found)[2] if found else None


def _forms(choice: str) -> list[str]:
    forms = [choice]
    if choice.isdigit() and int(choice) < len(NUMBERS):
        forms.append(NUMBERS[int(choice)])
    elif choice.lower() in NUMBERS:
        forms.append(str(NUMBERS.index(choice.lower())))
    return forms


def _place(text: str, form: str) -> int | None:
    words = BETWEEN.join(map(re.escape, form.split()))
    found = re.search(rf"(?<!\w){words}(?!\w)", text, flags=re.IGNORECASE)
    return found.start() if found else None
