"""Answers, rows of jobs and of studies come back as they were, whatever is in them and whatever became of a file."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framefusion.core.errors import RecordsError
from framefusion.core.lines import encoded, line_of, read_object, split
from framefusion.evaluation.cells import Cell
from framefusion.evaluation.records import Record, Records
from framefusion.inference.batch.rows import Row
from framefusion.inference.batch.store import Store
from framefusion.inference.batch.table import read_table, write_table
from tests.evaluation.study.test_pages import ROWS
from tests.evaluation.test_records import CELL, record
from tests.inference.batch.rows import JOB, SETTINGS, row

# What some readers take for the end of a line, halves of surrogate pairs in both orders, controls, and a quote.
ODD = '\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n\0\x1b\x9b\u202e\ud800\udfff\udc80\ud83d\ude00"\\\ufeff'
# Without arguments, `characters` makes surrogates, too.
texts = st.text(st.characters() | st.sampled_from(ODD), max_size=40)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


@quick
@given(texts, texts)
def test_answers_come_back(file: Path, text: str, name: str) -> None:
    file.unlink(missing_ok=True)
    cell = replace(CELL, model=name, options={"word": text})
    first, second = record(1, cell, text=text, answer=name, expected=text), record(2, cell, text=ODD)
    Records(file).add([first])
    Records(file).add([second])
    again = Records(file)
    assert (len(again), again.torn) == (2, 0) and file.read_bytes().count(b"\n") == 2
    for one in (first, second):
        assert again.has(cell, SimpleNamespace(seed=one.seed, kind=one.kind))
        assert replace(again.get(cell, (one.seed, one.kind)), cell=CELL) == replace(one, cell=CELL)
    size = file.stat().st_size
    again.add([first, second])
    assert file.stat().st_size == size


@quick
@given(texts, texts.filter(lambda text: text.encode(errors="ignore").decode() == text))
def test_rows_of_a_job_come_back(file: Path, text: str, question: str) -> None:
    file.unlink(missing_ok=True)
    one = replace(row("/a.mp4", question), answer=text, why=text)
    with Store(file, JOB.settings()) as store:
        store.add(one)
    with Store(file, JOB.settings()) as store:
        assert store.found == {one.key: True} and not store.unreadable
        store.finish()
    assert list(read_table(file)) == [one]


@quick
@given(texts)
def test_rows_of_a_study_come_back(text: str) -> None:
    one = replace(ROWS[0], method=text, origin={"device": text}, kinds={text: 0.5})
    assert type(one).from_line(one.to_line()) == one
    assert "\n" not in one.to_line()[:-1]


@quick
@given(st.lists(texts, min_size=1, max_size=5))
def test_lines_are_as_many_as_objects(found: list[str]) -> None:
    data = encoded(line_of({"text": text}) for text in found)
    assert [read_object(line)["text"] for line in split(data)] == found
    if not any("\ud800" <= letter <= "\udfff" for letter in "".join(found)):
        # Then any reader of JSON lines reads them, and a terminal that shows them obeys nothing.
        assert len(data.decode().splitlines()) == len(found)


def test_a_table_holds_what_has_no_utf_8(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, the extra `parquet`")
    out = tmp_path / "answers.parquet"
    write_table(out, [replace(row("/a.mp4"), answer="a\udc80b\0\u2028")])
    assert next(iter(read_table(out))).answer == "a\\udc80b\0\u2028"


DEEP = b"[" * 100_000 + b"]" * 100_000
HUGE = b"9" * 5_000


def mutated(line: bytes, name: bytes) -> dict[str, bytes]:
    """Lines that nobody wrote, made of one that was; name: of a number in it."""
    head, _, tail = line.rstrip(b"\n").partition(b'"' + name + b'": ')
    rest = tail[tail.index(b", ") if b", " in tail else tail.index(b"}") :]
    key = head + b'"' + name + b'": '
    values = {
        "null": b"null" if name == b"seed" else b'"null"',
        "a word": b'"four"',
        "a list": b"[1]",
        "an object": b"{}",
        "beyond 64 bits": b"1" + b"0" * 30,
        "beyond a double": b"1" + b"0" * 400,
        "thousands of digits": HUGE,
        "deep nesting": DEEP,
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "nesting that can be read and not written": b"[" * 900 + b"]" * 900,
        "true": b"true",
    }
    found = {case: key + value + rest for case, value in values.items()}
    found |= {
        "twice": key + b"1, " + key.lstrip(b"{") + b"2" + rest,
        "nothing": b"null",
        "a number": b"3",
        "no UTF-8": line.replace(b"o", b"\xff", 1),
        "half a line": line[: len(line) // 2],
        "zeros": b"\0" * 50,
        "only its head": line[:25],
        "a BOM": b"\xef\xbb\xbf" + line.rstrip(b"\n"),
        "two in one": line.rstrip(b"\n") * 2,
    }
    return found


CASES = list(mutated(record(1).to_line().encode(), b"seed"))


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_answer_is_set_aside(file: Path, case: str) -> None:
    damaged = mutated(record(1).to_line().encode(), b"seed")[case]
    data = record(2).to_line().encode() + damaged + b"\n"
    file.write_bytes(data)
    records = Records(file)
    assert len(records) == 1 and records.torn == 1 and "asked again" in records.notes[0]
    records.add([record(1)])
    assert file.read_bytes().startswith(data)
    assert len(Records(file)) == 2


@pytest.mark.parametrize("name", [field for field in record(1).__dataclass_fields__ if field != "cell"])
def test_a_value_of_another_type_is_no_answer(name: str) -> None:
    plain = json.loads(record(1).to_line())
    for value in ({}, [1], 10**400) if name == "answer" else (None, {}, [1], 10**400, "x" * (name not in TEXTS) or 1):
        assert Record.from_line(json.dumps(plain | {name: value})) is None, (name, value)


TEXTS = ("kind", "expected", "text")


@pytest.mark.parametrize("name", Cell.__dataclass_fields__)
@pytest.mark.parametrize("value", [None, 3, [1]])
def test_a_cell_of_another_type_is_no_answer(name: str, value: object) -> None:
    plain = json.loads(record(1).to_line())
    assert Record.from_line(json.dumps(plain | {"cell": plain["cell"] | {name: value}})) is None


@pytest.mark.parametrize("where", ["table", "journal"])
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_row_of_a_job_is_set_aside(file: Path, where: str, case: str) -> None:
    damaged = mutated(row("/a.mp4").to_line().encode(), b"frames")[case]
    place = file if where == "table" else file.with_name(file.name + ".journal")
    place.write_bytes(encoded([row("/b.mp4").to_line()]) + damaged + b"\n")
    with Store(file, JOB.settings()) as store:
        assert set(store.found) == {("/b.mp4", "what?")} and store.unreadable == 1
        store.add(row("/a.mp4"))
        store.finish()
    with Store(file, JOB.settings()) as store:
        assert set(store.found) == {("/a.mp4", "what?"), ("/b.mp4", "what?")} and not store.unreadable
    assert file.with_name(file.name + ".damaged").read_bytes() == damaged + b"\n"


@pytest.mark.parametrize("text", ["", "null", "{", '"x"', "[" * 100_000])
def test_a_row_that_does_not_say_what_answered_is_set_aside(file: Path, text: str) -> None:
    file.write_bytes(encoded([row("/b.mp4").to_line(), replace(row("/a.mp4"), settings=text).to_line()]))
    with Store(file, JOB.settings()) as store:
        assert set(store.found) == {("/b.mp4", "what?")} and store.unreadable == 1


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_row_of_a_study_is_a_clear_error(case: str) -> None:
    damaged = mutated(ROWS[0].to_line().encode(), b"questions")[case]
    with pytest.raises(RecordsError, match="run the study again"):
        type(ROWS[0]).from_line(damaged)


@pytest.mark.parametrize("name", ROWS[0].__dataclass_fields__)
def test_a_value_of_another_type_is_no_row_of_a_study(name: str) -> None:
    plain = json.loads(ROWS[0].to_line())
    for value in ({"a": {}}, [1], 10**400):
        if isinstance(plain[name], dict) and name in ("options", "origin") and isinstance(value, dict):
            continue
        with pytest.raises(RecordsError):
            type(ROWS[0]).from_line(json.dumps(plain | {name: value}))


FOREIGN = {
    "a configuration": b'{"keep": 0.3}',
    "a line": b'{"keep": 0.3}\n',
    "words": b"hello",
    "a list": b"[\n1\n]\n",
    "noise": bytes(range(256)),
    "blank lines": b"\n\n",
    "half of a pair": b'{"text": "\xed\xa0\x80"}\n',
    "almost an answer": b'{"cell": {}, "seed": 1}\n',
    "almost a row": b'{"path": null, "question": "q"}\n',
    "deep": DEEP,
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_others_is_not_written_to(file: Path, case: str) -> None:
    beside = file.with_name(file.name + ".journal")
    for place, opened in ((file, Records), (file, a_store), (beside, lambda path: a_store(file))):
        place.write_bytes(FOREIGN[case])
        with pytest.raises(RecordsError, match="hint"):
            opened(file)
        assert place.read_bytes() == FOREIGN[case]
        place.unlink()


def a_store(path: Path) -> None:
    with Store(path, JOB.settings()):
        raise AssertionError("it was opened")


def test_a_first_line_that_was_cut_is_ours(file: Path) -> None:
    line = record(1).to_line().encode()
    file.write_bytes(line[:60])
    Records(file).add([record(1)])
    assert len(Records(file)) == 1
    beside = file.with_name("b.jsonl.journal")
    beside.write_bytes(row("/a.mp4").to_line().encode()[:60])
    with Store(file.with_name("b.jsonl"), JOB.settings()) as store:
        store.add(row("/a.mp4"))
    with Store(file.with_name("b.jsonl"), JOB.settings()) as store:
        assert set(store.found) == {("/a.mp4", "what?")} and not store.unreadable


def test_every_column_of_a_row_is_checked() -> None:
    for name, value in asdict(Row("/a", "q", settings=SETTINGS)).items():
        for wrong in ([1], {"a": 1}, 10**400):
            assert (
                Row.from_line(json.dumps({"path": "/a", "question": "q", "settings": SETTINGS, name: wrong})) is None
            ), (
                name,
                value,
            )
