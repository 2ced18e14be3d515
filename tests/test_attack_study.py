"""A study of a run's models: what it keeps, what it makes of several attacks, and what it refuses."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
import tiny_run

from jaxrec import measurements, records, results, robustness, surrogates
from jaxrec.attacks import fgsm, random_noise
from jaxrec.pictures import forest
from jaxrec.studies import attack_study, attack_tables
from jaxrec.studies.attack_study import Training
from jaxrec.types import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    run: pathlib.Path | None
    data_dir: pathlib.Path | None
    out: pathlib.Path | None = None
    epsilon: float = 0.5


ATTACKS = {
    "noise": lambda epsilon: random_noise.attack(epsilon=epsilon),
    "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
}
KNOWN = surrogates.transferred(robustness.TRAINING_LOSS)
EPSILONS = {"relative": [0.3, 0.6]}


def threats(study):
    return [
        attack_study.Threat(robustness.WHITE_BOX, robustness.TRAINING_LOSS, ATTACKS),
        attack_study.Threat("the other stage's gradient", KNOWN, {"transfer": ATTACKS["FGSM"]}, study.twin),
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def studied(run):
    with attack_study.opened("tiny", Config(*run)) as study:
        return study, attack_study.run(study, threats(study), EPSILONS)


def test_every_training_is_measured_clean_and_under_every_threat(studied):
    study, found = studied
    assert list(found) == [Training(stage, seed) for stage in ("bpr", "apr") for seed in (0, 1)]
    for measured in found.values():
        assert [(m.attack, m.epsilon) for m in measured] == [
            ("none", 0), ("noise", 0.3), ("noise", 0.6), ("FGSM", 0.3), ("FGSM", 0.6), ("transfer", 0.3),
            ("transfer", 0.6),
        ]  # fmt: skip
        assert [m.oracle for m in measured[-2:]] == ["the other stage's gradient"] * 2
        for m in measured[1:]:
            assert m.mean_norms == pytest.approx({"user": m.epsilon, "item": m.epsilon}, rel=0.05)
    assert study.next_seed(Training("apr", 1)) == Training("apr", 0)


def test_a_study_goes_on_where_it_was(run, studied, monkeypatch):
    """What is on disk is read and not measured again; without the file it is, with the same figures."""
    study, found = studied
    kept = study.folder / "measured" / "bpr-1.npz"
    measured = []
    monkeypatch.setattr(attack_study, "_measure", lambda *args: measured.append(args) or found[Training("bpr", 0)])
    with attack_study.opened("tiny", Config(*run)) as again:
        assert_same(attack_study.run(again, threats(again), EPSILONS), found)
        assert not measured
        content = kept.read_bytes()
        kept.unlink()
        attack_study.run(again, threats(again), EPSILONS)
    assert len(measured) == 1
    kept.write_bytes(content)


def assert_same(first, second):
    assert list(first) == list(second)
    for training in first:
        for one, other in zip(first[training], second[training], strict=True):
            jax.tree.map(np.testing.assert_array_equal, vars(one), vars(other))


def test_the_strongest_has_the_highest_loss_and_costs_what_all_cost(studied):
    measured = studied[1][Training("bpr", 0)]
    by_name = {(m.attack, m.epsilon): m for m in measured}
    for best in attack_tables.strongest(measured, ["noise", "FGSM"], title="worst"):
        candidates = [by_name[name, best.epsilon] for name in ("noise", "FGSM")]
        assert best.loss == max(each.loss for each in candidates)
        assert best.queries == sum(each.queries for each in candidates)
        assert best.attack == "worst"
    with pytest.raises(ValueError, match="Expected measurements of PGD"):
        attack_tables.strongest(measured, ["PGD", "FGSM"], title="worst")


def test_each_users_worst_is_a_bound_for_every_user(studied):
    measured = studied[1][Training("bpr", 1)]
    names = ["noise", "FGSM"]
    for worst in attack_tables.each_users_worst(measured, names, title="own"):
        group = [measured[0], *(m for m in measured if m.attack in names and m.epsilon == worst.epsilon)]
        expected = np.max([each.ranks.ranks for each in group], axis=0)
        np.testing.assert_array_equal(worst.ranks.ranks, expected)
        for place, user in enumerate(worst.ranks.users):
            first = next(each for each in group if each.ranks.ranks[place] == expected[place])
            np.testing.assert_array_equal(worst.lists[user], first.lists[user])
            assert worst.target_scores[place] == first.target_scores[place]


def test_records_have_gains_lengths_and_the_declared_comparisons_with_holms_correction(studied, monkeypatch):
    study, found = studied
    monkeypatch.setattr(forest, "draw", lambda *args, **options: None)
    declared = [
        attack_tables.Declared(("bpr", "FGSM"), ("bpr", "noise")),
        attack_tables.Declared(("apr", "FGSM"), ("bpr", "FGSM")),
    ]
    attack_tables.publish(study, found, declared)
    made = records.read_records(study.folder / "results.json")
    assert (study.folder / "results.md").read_text() == results.page(made)
    cell = {(r.defence, r.attack, r.epsilon, r.metric): r.value for r in made if r.k in (10, None)}
    ndcg = lambda defence, attack: cell[defence, attack, attack and 0.3, "ndcg"]
    assert cell["APR", "FGSM", 0.3, "ndcg_gain"] == pytest.approx(ndcg("APR", "FGSM") - ndcg("APR", None))
    difference = cell[None, "FGSM", 0.3, "ndcg_less_noise"]
    assert difference == pytest.approx(ndcg(None, "FGSM") - ndcg(None, "noise"))
    assert cell["APR", "FGSM", 0.3, "ndcg_less_BPR"] == pytest.approx(ndcg("APR", "FGSM") - ndcg(None, "FGSM"))
    # Two seeds: a p value is 1 or .5; of four tests Holm's smallest is then 1.
    assert {r.value for r in made if r.metric.endswith("holm_p")} == {1.0}
    assert sum(r.metric.endswith("holm_p") for r in made) == 4


@pytest.mark.parametrize("first", [("bpr", "PGD-100"), ("trades", "FGSM")])
def test_a_declared_comparison_that_was_not_measured_is_named_and_not_left_out_of_holms_family(studied, first):
    study, found = studied
    made = attack_tables.records_of(study, found)
    declared = [attack_tables.Declared(("apr", "FGSM"), ("bpr", "FGSM")), attack_tables.Declared(first, first)]
    with pytest.raises(ValueError, match=f"the declared {first[1]} on {first[0]}, got none"):
        attack_tables.declared_records(found, declared, made)


def refuse(config, message):
    with pytest.raises(InputError, match=message), attack_study.opened("tiny", config):
        pytest.fail("it was opened")


def test_another_config_run_or_file_is_refused(run, studied, tmp_path):
    refuse(Config(*run, epsilon=0.7), r"epsilon: 0\.5 -> 0\.7")
    refuse(Config(None, None), "Expected --run")
    (tmp_path / "config.json").write_text('{"config": {"seed": 0, "num_seeds": 2}}')
    refuse(Config(tmp_path, None), "Expected a finished run")
    broken = tmp_path / "bpr-0.npz"
    broken.write_bytes((studied[0].folder / "measured" / "bpr-0.npz").read_bytes()[:-300])
    with pytest.raises(InputError, match=r"Expected measurements in .*bpr-0\.npz"):
        measurements.read(broken)
