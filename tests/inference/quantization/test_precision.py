"""What can be written behind --quantize, and what is refused with a hint."""

from __future__ import annotations

import pytest

from framefusion.core.errors import OptionError
from framefusion.inference.quantization import Precision, Width


def test_the_parts_are_read():
    found = Precision.parse("weights=int4, activations=int8, kv=sim3, tower=true, group=64, kv_group=16")
    assert (found.weights, found.activations, found.kv) == (Width(4), Width(8), Width(3, simulated=True))
    assert found.tower and (found.group, found.kv_group) == (64, 16) and found.simulated and not found.full


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kv=int4",
        "weights=sim2,activations=sim4",
        "weights=int8,activations=int8,kv=int8,tower=true,group=32,kv_group=8,cache=hqq",
        "weights=int4,group=64,library=hqq",
        "weights=int8,library=bitsandbytes",
        "attention=sage-emulated",
    ],
)
def test_text_and_back(text):
    assert str(Precision.parse(text)) == text
    assert Precision.parse(text).full == (text == "")


def test_what_concerns_no_width_changes_nothing():
    assert str(Precision(group=16, kv_group=4, tower=True)) == "" == str(Precision(cache="hqq", library="hqq"))


def test_sixteen_bits_are_nothing():
    assert Precision.parse("weights=16,activations=full,kv=none") == Precision()


WRONG = {
    "weights=int4,library=gptq": "unknown library",
    "weights=int8,activations=int8,library=hqq": "does not take activations",
    "weights=4": "int4 for a library",
    "weights=int3": "int4, int8 or 16",
    "kv=sim9": "sim8 or 16",
    "activations=sim3": "sim4",
    "activations=int8": "weights=int8",
    "weights=int8,activations=sim8": "activations=int8",
    "weight=int8": "weights",
    "weights": "weights=int4",
    "kv=int4,kv=int2": "twice",
    "tower=yes": "tower=true",
    "group=0": "at least one",
    "group=big": "group=128",
    "cache=disk": "quanto",
    "attention=flash": "sage",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused(text):
    with pytest.raises(OptionError) as error:
        Precision.parse(text)
    assert WRONG[text] in str(error.value) and error.value.hint
