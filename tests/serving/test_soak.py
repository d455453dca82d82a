"""The benchmark of mixed requests and faults, for seconds instead of half an hour."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

from benchmarks.serving.mixed import check_told_apart, owner
from benchmarks.serving.soak import End, soak


def test_mixed_requests_and_faults_leave_nothing_behind(tmp_path):
    row = json.loads(json.dumps(soak("qwen2_5_vl", 20.0, 4, tmp_path)))
    assert row["clean"], {key: row[key] for key in ("foreign", "unknown", "failed", "left", "changed_by_restart")}
    assert {*row["ends"]} == {*End}
    assert row["held"][-1]["mib"] > 0 and row["held"][-1]["processes"] == row["held"][0]["processes"]


def test_an_answer_belongs_to_the_request_it_is_like():
    expected = {"first": (-1.0, -2.0), "second": (-1.0, -2.5)}
    check_told_apart(expected)
    assert owner((-1.0, -2.001), expected) == "first" and owner((-1.0, -2.5), expected) == "second"
    assert owner((-1.0, -2.2), expected) is None
    with pytest.raises(RuntimeError, match="`second` and `first` are answered alike"):
        check_told_apart({"first": (-1.0, -2.0), "second": (-1.0, -2.001)})
