"""Laws of records."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from measured import ATTACKED, record

from jaxrec import records
from jaxrec.types import InputError


def test_records_come_back_as_they_were_written(tmp_path):
    written = [record(), record(**ATTACKED, metric="coverage", k=None, value=1 / 3, interval=None)]
    records.write_records(tmp_path / "results.json", written)
    assert records.read_records(tmp_path / "results.json") == written
    before = (tmp_path / "results.json").read_bytes()
    records.write_records(tmp_path / "results.json", records.read_records(tmp_path / "results.json"))
    assert (tmp_path / "results.json").read_bytes() == before


def test_a_record_has_the_fields_of_the_design_and_all_are_required():
    names = """
        experiment model defence dataset split protocol surface attack oracle epsilon epsilon_unit gauge achieved_norm
        gradient_evaluations queries metric k value interval seeds users step chosen_by training device commit
        fingerprint
    """
    assert [field.name for field in dataclasses.fields(records.Record)] == names.split()
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(records.Record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": math.nan}, "finite"),
        ({"interval": (0.1, math.inf)}, "finite"),
        (ATTACKED | {"achieved_norm": {"user": math.nan}}, "finite"),
        ({"interval": (0.2, 0.1)}, r"interval \(low, high\)"),
        (ATTACKED | {"epsilon": -1.0}, "epsilon >= 0"),
        (ATTACKED | {"epsilon_unit": None}, "absolute, relative, of users"),
        ({"epsilon": 0.5, "epsilon_unit": "absolute"}, "no attack"),
        ({"queries": 3}, "no attack"),
        ({"device": ""}, "empty device"),
        ({"seeds": ()}, "empty seeds"),
    ],
)
def test_an_unsound_record_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("users"), "record 2; missing or unknown: users"),
        (lambda entry: entry.update(note="x"), "record 2; missing or unknown: note"),
        (lambda entry: entry.update(value=float("nan")), "record 2: Expected finite"),
        (lambda entry: entry.update(interval=[0.1]), "record 2: "),
        (lambda entry: entry.update(value=None), "record 2: "),
        (lambda entry: entry.update(interval=["a", "b"]), "record 2: "),
    ],
)
def test_a_spoilt_record_is_named(tmp_path, change, message):
    path = tmp_path / "results.json"
    records.write_records(path, [record(), record()])
    entries = json.loads(path.read_text())
    change(entries[1])
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=message):
        records.read_records(path)


@pytest.mark.parametrize(
    ("text", "message"), [("[", "Expected JSON"), ("{}", "Expected a list"), (None, "No such file")]
)
def test_a_file_that_holds_no_records_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=rf"{message}|results\.json: {message}"):
        records.read_records(tmp_path / "results.json")
