"""The words after --model_args: which are ours, what they become, and what is refused."""

from __future__ import annotations

import pytest

from framefusion.core.errors import OptionError, UnknownNameError
from framefusion.core.registry import methods
from framefusion.inference.quantization.precision import Precision
from framefusion.integrations.lmms.options import parameters, precision_of, split
from framefusion.methods.adsc import ADSC
from framefusion.methods.fastv import FastV
from framefusion.methods.framefusion import FrameFusion

TAKEN = {"pretrained", "device", "batch_size"}


def test_ours_and_theirs_are_told_apart():
    method, rest = split({"pretrained": "x", "method": "fastv", "keep": 0.5, "layer": 3, "batch_size": 1}, TAKEN)
    assert method == FastV(keep=0.5, layer=3)
    assert rest == {"pretrained": "x", "batch_size": 1}


@pytest.mark.parametrize("word", ["cost", "keep"])
def test_either_word_is_the_budget_of_any_method(word):
    assert split({word: 0.4}, TAKEN)[0] == FrameFusion(cost=0.4)
    assert split({"method": "fastv", word: 0.4}, TAKEN)[0] == FastV(keep=0.4)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_reached_by_its_name(name):
    assert split({"method": name}, TAKEN)[0].facts.name == name


@pytest.mark.parametrize("name", ["dense", "none"])
def test_dense_is_no_method(name):
    assert split({"method": name, "pretrained": "x"}, TAKEN) == (None, {"pretrained": "x"})


def test_dense_with_options_is_refused():
    with pytest.raises(OptionError, match="takes no cost"):
        split({"method": "dense", "cost": 0.3}, TAKEN)


def test_json_and_none_arrive_as_strings():
    found = split({"method": "adsc", "layers": "[1, 2]", "shares": "[0.5, 0.25]"}, TAKEN)[0]
    assert found == ADSC(layers=[1, 2], shares=[0.5, 0.25])
    assert split({"similarity_lower_bound": "none", "query_rows": "2"}, TAKEN)[0] == FrameFusion(query_rows=2)


def test_a_wrong_word_is_an_error_even_if_the_class_would_swallow_it():
    with pytest.raises(OptionError, match="simlarity_lower_bound") as caught:
        split({"simlarity_lower_bound": 0.6}, TAKEN)
    assert "similarity_lower_bound" in caught.value.hint


NARROW = Precision.parse("weights=int4,kv=int8,group=32")
WAYS = ("weights=int4,kv=int8,group=32", "weights:int4+kv:int8+group:32", "weights=int4+kv=int8+group=32")


@pytest.mark.parametrize("words", [*WAYS, "'weights=int4,kv=int8,group=32'", NARROW])
def test_bits_in_every_way_to_write_them(words):
    assert precision_of(words) == NARROW


@pytest.mark.parametrize("words", [None, "", "none", "16", 16, "kv=16", Precision()])
def test_no_bits_are_the_model_as_it_is(words):
    assert precision_of(words) is None


@pytest.mark.parametrize("words", ["weights:4", "weight:int4", "int4", "weights:int4+weights:int8"])
def test_wrong_bits_are_refused(words):
    with pytest.raises(OptionError):
        precision_of(words)


@pytest.mark.parametrize("words", WAYS[1:])
def test_bits_survive_the_parsing_of_lmms_eval(words):
    utils = pytest.importorskip("lmms_eval.utils", reason="needs lmms-eval, see `make test-lmms`")
    found = utils.simple_parse_args_string(f"pretrained=x,quantize={words},cost=0.3")
    assert precision_of(found.pop("quantize")) == NARROW and found == {"pretrained": "x", "cost": 0.3}


def test_two_budgets_are_refused():
    with pytest.raises(OptionError, match="both set `cost`"):
        split({"cost": 0.3, "keep": 0.5}, TAKEN)


def test_an_unknown_method_is_refused_with_its_neighbours():
    with pytest.raises(UnknownNameError, match="framefusion"):
        split({"method": "famefusion"}, TAKEN)


def test_parameters_of_a_class_and_its_bases():
    class Base:
        def __init__(self, pretrained, device="cpu", **rest):
            pass

    class Wrapper(Base):
        def __init__(self, pretrained, fps=None, **rest):
            super().__init__(pretrained, **rest)

    found = parameters(Wrapper.__mro__)
    assert set(found) == {"pretrained", "device", "fps"} and found["device"] == "cpu"
