"""Detectors on kinds unseen: figures at a threshold, whose fakes are whose, what is recorded, and the whole path."""

import json
from typing import Any

import jax
import numpy as np
import pytest
import shilled

from experiments import detector_generalisation
from jaxrec import command, fake_profiles, provenance, records
from jaxrec.detectors import classifier
from jaxrec.poisoning import average, bandwagon, random_ratings
from jaxrec.studies import generalisation_records, generalisation_study
from jaxrec.studies.generalisation_study import HARDENED, OVERSAMPLED, PLAIN, SEEN, UNSEEN
from jaxrec.studies.study import Data
from jaxrec.types import Interactions, Split


def setting(**fields):
    known = shilled.real("implicit")
    empty = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32), known.num_users, known.num_items)
    kinds = {
        name: lambda num, direction, attack=module.attack: attack(num_fakes=num, num_fillers=8, direction=direction)
        for name, module in (("random", random_ratings), ("average", average))
    }
    nothing: Any = None
    parts = {
        "data": Data(Split(known, empty, empty, None), "toy", "toy", "none", {"sha256": "0"}),
        "kinds": kinds, "tested": ("random", "average"), "plain": ("random",), "start": "random",
        "estimators": {"classifier": None}, "references": {}, "victim": nothing, "num_fakes": 4, "num_own": 3,
        "num_exchanges": 2, "num_targets": 2, "rate": 0.1,
    }  # fmt: skip
    return generalisation_study.Setting(**{**parts, **fields})


def test_figures_are_those_at_what_a_share_of_users_exceeds_before_the_attack():
    on, fakes = (
        setting(),
        random_ratings.attack(num_fakes=4)(jax.random.key(0), shilled.real("implicit"), np.array([3])),
    )
    detector = lambda interactions: np.arange(interactions.num_users, dtype=float) % 80  # of fakes 0, 1, 2, 3
    limit = generalisation_study.threshold(on, detector)
    assert 71 <= limit < 72
    found = generalisation_study.judged(on, detector, limit, fakes)
    assert found == {"auc": pytest.approx((0 + 1 + 2 + 3 + 4 / 2) / (4 * 80)), "recall": 0, "precision": 0} | {
        "false_positive_rate": 8 / 80
    }
    found = generalisation_study.judged(on, lambda interactions: -detector(interactions), -1.5, fakes)
    assert (found["recall"], found["false_positive_rate"], found["precision"]) == (0.5, 2 / 80, 0.5)


def test_the_defender_has_fakes_of_their_own_and_other_ones_each_time(tmp_path):
    (tmp_path / "fakes").mkdir()
    on = setting()
    digest = lambda fakes: provenance.fingerprint(fakes)["sha256"]
    theirs = generalisation_study.attackers(tmp_path, on, "random", 0)
    first, more = (generalisation_study.own(tmp_path, on, "random", 0, draw) for draw in (0, 1))
    assert (theirs.num_users, first.num_users, more.num_users) == (4, 3, 3)
    assert digest(first) != digest(more)
    assert len({frozenset(fakes.items.tolist()) for fakes in (theirs, first, more)}) == 3
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "fakes").iterdir()}
    assert digest(generalisation_study.own(tmp_path, on, "random", 0)) == digest(first)
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "fakes").iterdir()}


def test_a_kind_that_is_left_out_is_not_learned_from(tmp_path, monkeypatch):
    (tmp_path / "fakes").mkdir()
    on, learned = setting(), []
    digests = lambda parts: [provenance.fingerprint(part)["sha256"] for part in parts]
    blind = lambda interactions: np.zeros(interactions.num_users)
    monkeypatch.setattr(generalisation_study, "learner", lambda _, name, fakes, seed: learned.append(fakes) or blind)
    rows = generalisation_study.left_out(tmp_path, on, "random", 0, {"classifier": blind}, lambda _: 0.0)
    assert [row[:3] for row in rows] == [("classifier", what, "random") for what in (UNSEEN, SEEN)]
    assert digests(learned[0]) == digests([generalisation_study.own(tmp_path, on, "average", 0)])


def test_fakes_of_either_side_may_exchange_everything_but_their_targets(tmp_path, monkeypatch):
    """Bandwagon fakes of the defender share what they select as well, and the attacker's may give that up."""
    (tmp_path / "fakes").mkdir()
    kinds = {
        "bandwagon": lambda num, _: bandwagon.attack(num_fakes=num, num_fillers=5, num_selected=3),
        "generated": lambda num, _: random_ratings.attack(num_fakes=num, num_fillers=8),
    }
    on, kept = setting(kinds=kinds, tested=("bandwagon",), plain=("bandwagon",), start="bandwagon"), []

    def wrap(poison, **_):
        return lambda key, known, targets: kept.append(sorted(targets.tolist())) or poison(key, known, targets)

    monkeypatch.setattr(generalisation_study.adaptive, "wrap", wrap)
    monkeypatch.setattr(generalisation_study, "learner", lambda *_: lambda data: np.zeros(data.num_users))
    monkeypatch.setattr(generalisation_study, "_hit_rate", lambda *_: 0.0)
    monkeypatch.setattr(generalisation_study.poison_evaluation, "bench", lambda *_: None)
    generalisation_study.hardened(tmp_path, on, "classifier", 0)
    own = generalisation_study.own(tmp_path, on, "bandwagon", 0)
    targets = sorted(generalisation_study.own_targets(on, "bandwagon", 0).tolist())
    shared = np.flatnonzero(np.bincount(own.items) == own.num_users).tolist()
    assert set(targets) < set(shared)
    assert kept == [targets, *[on.targets(0).tolist()] * 3]


def test_replayed_fakes_are_what_a_detector_learns_from():
    known = shilled.real("implicit")
    fakes = average.attack(num_fakes=3)(jax.random.key(1), known, np.array([3]))
    joined, is_fake = classifier.with_own_fakes(known, make=generalisation_study.replayed([fakes, fakes]))
    assert is_fake.sum() == 6
    expected = fake_profiles.contaminate(fake_profiles.contaminate(known, fakes), fakes)
    assert provenance.fingerprint(joined) == provenance.fingerprint(expected)


def test_hardening_is_compared_with_oversampling_of_the_same_seed(tmp_path):
    on = setting()
    (tmp_path / "measured").mkdir()
    figures = lambda recall: {"auc": 0.5, "recall": recall, "precision": recall, "false_positive_rate": 0.05}
    for seed in (0, 1):
        for kind in on.tested:
            rows = [("classifier", what, kind, figures(0.2 + seed / 10)) for what in (UNSEEN, SEEN)]
            _write(generalisation_study.path_of(tmp_path, kind, seed), rows)
        rows = []
        for regime, recall in ((PLAIN, 0.1), (OVERSAMPLED, 0.2 + seed / 10), (HARDENED, 0.5 + seed / 5)):
            rows += [("classifier", regime, PLAIN, figures(0.9 - recall))]
            rows += [("classifier", regime, attack, figures(recall) | {"push": 0.01}) for attack in _ATTACKS]
        _write(generalisation_study.path_of(tmp_path, "classifier", seed), rows)
    found = generalisation_records.records_of(tmp_path, on, seeds=(0, 1), experiment="toy")
    of = {(r.defence, r.attack, r.metric): r for r in found}
    gain = of[generalisation_records.CHANGE, "random, adaptive", "recall"]
    assert gain.value == pytest.approx((0.3 + 0.4) / 2)
    assert gain.interval is not None
    assert gain.interval[1] - gain.value == pytest.approx(12.706 * 0.05, rel=1e-3)  # t of two seeds, .3 and .4
    assert of[generalisation_records.CHANGE, PLAIN, "precision"].value == pytest.approx(-0.35)
    assert (gain.epsilon, gain.seeds, gain.users) == (4 / 80, (0, 1), 80)
    page = generalisation_records.page(found, on)
    assert "| random | 0.500 ± 0.000 / 0.250 ± 0.635 |" in page
    assert "Realised false-positive rates: 0.050 to 0.050." in page


_ATTACKS = ("random", "random, adaptive")


def _write(path, rows):
    path.write_text(json.dumps([generalisation_study.Row(*row)._asdict() for row in rows]))


@pytest.mark.slow
def test_the_whole_path_goes_on_where_it_was_stopped(tmp_path):
    shilled.write_u_data(tmp_path)
    sizes = ["--profile-size", "8", "--num-selected", "2", "--num-targets", "2", "--own", "0.1"]
    flags = ["--smoke", "--data-dir", str(tmp_path), "--run-dir", str(tmp_path / "run"), *sizes]
    run = lambda: command.run(detector_generalisation.main, detector_generalisation.Config, flags)
    run()
    page = (tmp_path / "run" / "detectors.md").read_text()
    found = records.read_records(tmp_path / "run" / "results.json")
    of = {(r.model, r.defence, r.attack, r.metric): r.value for r in found}
    assert {r.attack for r in found} == {
        "random", "bandwagon", "exact EASE", PLAIN, "bandwagon, adaptive"
    }  # fmt: skip
    adaptive = lambda regime: of["neural", regime, "bandwagon, adaptive", "precision"]
    assert of["neural", PLAIN, "bandwagon", "recall"] >= of["neural", PLAIN, "bandwagon, adaptive", "recall"]
    assert len({adaptive(regime) for regime in (PLAIN, OVERSAMPLED, HARDENED)}) > 1
    for name in ("random-0.json", "neural-0.json"):
        (tmp_path / "run" / "measured" / name).unlink()
    run()
    assert (tmp_path / "run" / "detectors.md").read_text() == page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rate", "1"], "--rate in (0, 1), got --rate 1"),
        (["--kinds", "random"], "--kinds of at least two, one to leave out, got random"),
        (["--num-selected", "51"], "--num-selected <= --profile-size 50, got 51"),
        (["--exchanges", "0"], "--exchanges finite and > 0, got --exchanges 0"),
        (["--kinds", "random", "random"], "Expected each value of --kinds once, got random random."),
        (["--kinds"], "--kinds of at least two, one to leave out, got none."),
        (["--plain"], "Expected --plain of random, average"),
        (["--start", "nobody"], "Expected --start of random, average"),
    ],
)
def test_flags_that_cannot_be_are_said_in_a_line(flags, message, capsys):
    with pytest.raises(SystemExit) as leaving:
        command.run(detector_generalisation.main, detector_generalisation.Config, flags)
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err
