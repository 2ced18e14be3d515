"""One model from both sides: what is certain is never above what attacks leave, and the page's figures say what was
measured."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import audit, exhibits, gradient_masking, report, robustness, surfaces
from jaxrec.attacks import fgsm, pgd
from jaxrec.certificates import dot_product
from jaxrec.models import mf
from jaxrec.types import Interactions, Split

NUM_USERS, NUM_ITEMS = 40, 30
EPSILONS = {"absolute": [0.05, 0.3], "relative": [0.05, 0.2]}


def make_victim():
    """Tables of a taste in eight directions, training items that fit it, and a held-out item a user that does too."""
    rng = np.random.default_rng(0)
    user, item = (rng.normal(size=(rows, 8)).astype(np.float32) for rows in (NUM_USERS, NUM_ITEMS))
    liked = np.argsort(-(user @ item.T), axis=1)[:, :8]
    liked = rng.permuted(liked, axis=1)
    everyone = np.arange(NUM_USERS, dtype=np.int32)

    def part(columns):
        users = np.repeat(everyone, len(columns))
        return Interactions(users, liked[:, columns].reshape(-1).astype(np.int32), NUM_USERS, NUM_ITEMS)

    params = {"tables": {"user": jnp.asarray(user), "item": jnp.asarray(item)}, "weights": {}, "given": {}}
    return audit.Victim(
        model=mf.model(num_users=NUM_USERS, num_items=NUM_ITEMS, dimension=8),
        params=params,
        split=Split(part([0, 1, 2, 3, 4, 5]), part([6]), part([7])),
        surface=surfaces.tables("user", "item"),
        factors=lambda params: dot_product.Factors(params["tables"]["user"], params["tables"]["item"]),
        users=[f"user {i}" for i in range(NUM_USERS)],
        items=[f"item {i}" for i in range(NUM_ITEMS)],
    )


@pytest.fixture(scope="module")
def looked():
    victim, calls = make_victim(), []
    attacks = {
        "FGSM": lambda epsilon: fgsm.attack(epsilon=epsilon),
        "PGD": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=3),
    }
    protocol = robustness.protocol(victim.split, jax.random.key(1), list_length=5)
    findings = audit.look(victim, protocol, attacks, EPSILONS, key=jax.random.key(2), report=calls.append)
    assert len(calls) == audit.num_measured(len(attacks), EPSILONS)
    return victim, findings


def test_no_attack_and_no_noise_beats_what_is_certain(looked):
    _, findings = looked
    some = False
    for unit, bounds in findings.bounds.items():
        at = dict(zip(bounds.epsilons, bounds.both, strict=True))
        for measured in findings.attacked[unit].values():
            for measurement in measured:
                assert (at[measurement.epsilon].ranks >= measurement.ranks.ranks).all()
        some |= any((ranks.ranks <= 5).any() for ranks in bounds.both)
    assert some, "every bound is empty, and the test says nothing"


def test_item_rows_alone_are_certified_better_and_the_held_out_oracle_attains_it(looked):
    _, findings = looked
    for bounds in findings.bounds.values():
        for both, item, held_out in zip(bounds.both, bounds.item, bounds.held_out, strict=True):
            assert (item.ranks <= both.ranks).all()
            assert (np.abs(item.ranks - held_out.ranks) < 1).mean() > 0.95  # but for rounding


def test_a_radius_is_where_the_certified_rank_leaves_the_list(looked):
    _, findings = looked
    for bounds in findings.bounds.values():
        for epsilon, both in zip(bounds.epsilons, bounds.both, strict=True):
            inside = bounds.radius >= 1.05 * epsilon  # the radius is that of the looser of the two bounds
            assert (both.ranks[inside] <= 5).all()


def test_the_strongest_is_the_highest_loss_and_the_private_one_every_users_worst(looked):
    _, findings = looked
    for unit in EPSILONS:
        by_attack = findings.attacked[unit]
        for place, (worst, private) in enumerate(
            zip(audit.strongest(findings, unit), audit.private(findings, unit), strict=True)
        ):
            at = {name: measured[place] for name, measured in by_attack.items()}
            assert worst.loss == max(at[name].loss for name in ("FGSM", "PGD"))
            ranks = [findings.clean.ranks.ranks, at["FGSM"].ranks.ranks, at["PGD"].ranks.ranks]
            np.testing.assert_array_equal(private.ranks, np.max(ranks, axis=0))


def test_noise_gets_a_draw_for_each_attack(looked):
    _, findings = looked
    first, second = (findings.attacked["relative"][audit.noise_name(draw)][1] for draw in (0, 1))
    assert (first.ranks.ranks != second.ranks.ranks).any()
    control = audit.private(findings, "relative", noise=True)[1]
    worst = np.max([m.ranks.ranks for m in (findings.clean, first, second)], axis=0)
    np.testing.assert_array_equal(control.ranks, worst)


def test_curves_hold_the_means_over_users(looked):
    _, findings = looked
    (absolute, relative) = exhibits.curves(findings)
    assert (absolute["unit"], relative["unit"], absolute["k"]) == ("absolute", "relative", 5)
    series = {entry["name"]: entry for entry in relative["series"]}
    ranks = findings.attacked["relative"]["PGD"][1].ranks.ranks
    expected = np.where(ranks <= 5, 1 / np.log2(1 + ranks), 0).mean()
    assert series["PGD"]["values"][1] == pytest.approx(expected)
    assert series["PGD"]["low"][1] < expected < series["PGD"]["high"][1]
    assert series["certified, both"]["epsilons"][-2:] == EPSILONS["relative"]
    assert {entry["kind"] for entry in relative["series"]} == {"certified", "held_out", "worst_of", "attack", "noise"}


def test_groups_are_all_users_in_order_of_activity_and_popularity(looked):
    victim, findings = looked
    before = findings.clean.ranks.ranks
    clean = np.where(before <= 5, 1 / np.log2(1 + before), 0)
    popularity = np.bincount(victim.split.train.items, minlength=NUM_ITEMS)[victim.split.test.items]
    _, by_item = exhibits.groups(findings, victim.split, "relative", 0.2)
    assert [group["users"] for group in by_item["groups"]] == [10, 10, 10, 10]
    least = np.argsort(popularity, kind="stable")[:10]
    assert by_item["groups"][0]["clean"] == pytest.approx(clean[least].mean())
    assert by_item["groups"][0]["name"].startswith(f"{popularity.min()} to ")
    alone, *_ = exhibits.groups(findings, victim.split, "relative", 0.2, num=40)
    assert {(group["users"], group["low"], group["high"]) for group in alone["groups"]} == {(1, None, None)}


def test_the_least_robust_user_has_the_smallest_radius_above_zero(looked):
    victim, findings = looked
    found = exhibits.radii_of(findings, victim, "relative", num=3, least_users=2)
    radius = findings.bounds["relative"].radius
    least = np.flatnonzero(radius == radius[radius > 0].min())[0]
    assert found["least_robust_users"][0]["user"] == f"user {least}"
    assert found["least_robust_users"][0]["item"] == f"item {victim.split.test.items[least]}"
    assert found["least_robust_users"][0]["activity"] == 6
    radii = [entry["radius"] for entry in found["most_robust_users"]]
    assert radii == sorted(radii, reverse=True)
    counts = np.bincount(victim.split.test.items, minlength=NUM_ITEMS)
    assert all(counts[int(entry["item"].removeprefix("item "))] >= 2 for entry in found["least_robust_items"])
    assert all(entry["radius"] > 0 for entry in found["least_robust_items"])


def test_changed_lists_start_with_the_user_whose_list_changed_most(looked):
    victim, findings = looked
    found = exhibits.changed_lists(findings, victim, "relative", 0.2, num=2)
    assert len(found) == 4
    user = int(found[0]["user"].removeprefix("user "))
    assert found[0]["before"] == [f"item {item}" for item in findings.clean.lists[user]]
    overlaps = [len(set(entry["before"]) & set(entry["after"])) for entry in found]
    assert overlaps[0] <= min(overlaps[2:])


def test_records_tell_bounds_from_attacks(looked):
    victim, findings = looked
    common = dict.fromkeys(
        ("model", "dataset", "split", "protocol", "training", "device", "commit", "fingerprint"), "x"
    )
    found = report.records_of(
        findings, victim, seed=3, experiment="test", defence=None, step=None, chosen_by=None, **common
    )
    certified = [r for r in found if r.attack == "any (certified)" and r.surface == "item table" and r.metric == "ndcg"]
    assert len(certified) == sum(len(bounds.epsilons) for bounds in findings.bounds.values())
    assert {r.attack for r in found} >= {None, "FGSM", "PGD", "noise", "held-out oracle"}
    assert all(r.seeds == (3,) for r in found)


def test_a_page_is_plain_json(looked):
    victim, findings = looked
    flags = [gradient_masking.Flag("a symptom", False, "No.")]
    found = report.page_of(findings, victim, flags, title="?", about={"model": "MF"}, notes=["a note"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {entry["metric"] for entry in found["curves"]} == {"ndcg", "hit_rate"}
    assert found["groups"][0]["epsilon"] == 0.2


def test_a_model_without_factors_gets_no_certificate(looked):
    victim, findings = looked
    blank = findings._replace(bounds={})
    kinds = {series["kind"] for curve in exhibits.curves(blank) for series in curve["series"]}
    assert kinds == {"worst_of", "held_out", "attack", "noise"}
    assert exhibits.radii_of(blank, victim, "relative")["least_robust_users"] == []


def test_titles_are_taken_where_there_are_some():
    ids = np.array([7, 9])
    assert audit.names_of(ids, 2, {7: "Heat"}) == ["Heat", "9"]
    assert audit.names_of(None, 2) == ["0", "1"]
