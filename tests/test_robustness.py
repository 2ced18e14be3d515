"""The robustness measurement on tables of twelve rows: clean ranks, controls, gauges, and any adversary."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import adversaries, evaluate, metrics, oracles, robustness, surfaces, targeted
from jaxrec.attacks import fgsm, pgd, random_noise
from jaxrec.models import mf
from jaxrec.types import Interactions, Split

NUM_USERS, NUM_ITEMS, DIM = 12, 12, 4
MODEL = mf.model(num_users=NUM_USERS, num_items=NUM_ITEMS, dimension=DIM)
SURFACE = surfaces.tables("user", "item")
ATTACKS = {
    "random_noise": lambda epsilon: random_noise.attack(epsilon=epsilon),
    "fgsm": lambda epsilon: fgsm.attack(epsilon=epsilon),
    "pgd": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=3),
}
EPSILONS: dict[robustness.Unit, tuple[float, ...]] = {"absolute": (0.0, 0.4), "relative": (0.0, 0.3)}
KEY = jax.random.key(7)


@functools.cache
def split():
    """Three tastes of four users and four items: of its four, each user trains on two and holds out two."""
    users = np.repeat(np.arange(NUM_USERS, dtype=np.int32), 4)
    place = np.tile(np.arange(4), NUM_USERS)
    items = (4 * (users // 4) + (users + place) % 4).astype(np.int32)
    whole = Interactions(users, items, NUM_USERS, NUM_ITEMS)
    return Split(train=whole.take(place < 2), valid=whole.take(place == 2), test=whole.take(place == 3))


@functools.cache
def protocol():
    return robustness.protocol(split(), jax.random.key(3), list_length=3)


@functools.cache
def trained():
    """Tables that know the three tastes, and some noise: what training would find."""
    rng = np.random.default_rng(0)
    taste = np.eye(3, DIM)[np.arange(12) // 4]
    tables = {name: jnp.asarray(taste + 0.2 * rng.normal(size=taste.shape), jnp.float32) for name in ("user", "item")}
    return {"tables": tables, "weights": {}, "given": {}}


def mixed(matrix):
    """Other tables with the same scores."""
    tables = {name: np.asarray(table, float) for name, table in trained()["tables"].items()}
    pair = {"user": tables["user"] @ matrix, "item": tables["item"] @ np.linalg.inv(matrix).T}
    return {**trained(), "tables": {name: jnp.asarray(table, jnp.float32) for name, table in pair.items()}}


MIXES = {
    "none": np.eye(DIM),
    "3P, Q/3": 3 * np.eye(DIM),
    "invertible": np.random.default_rng(1).normal(size=(DIM, DIM)) + 2 * np.eye(DIM),
}


@functools.cache
def measured(mix):
    found = robustness.measure(MODEL, mixed(MIXES[mix]), protocol(), ATTACKS, EPSILONS, surface=SURFACE, key=KEY)
    return {(m.unit, m.attack, m.epsilon): m for m in found}


def test_there_is_one_record_for_the_clean_model_and_one_for_each_unit_attack_and_epsilon():
    expected = {("absolute", "none", 0.0)}
    expected |= {(unit, attack, epsilon) for unit, radii in EPSILONS.items() for attack in ATTACKS for epsilon in radii}
    assert set(measured("none")) == expected
    costs = {name: (it.gradient_evaluations, it.queries) for (_, name, _), it in measured("none").items()}
    assert costs == {"none": (0, 0), "random_noise": (0, 1), "fgsm": (1, 1), "pgd": (3, 1)}


def test_test_items_are_ranked_among_what_was_seen_in_neither_other_part():
    """All items less three seen; with `valid` the validation items, less two."""
    test = evaluate.evaluate(MODEL, trained(), protocol().ranking)
    np.testing.assert_array_equal(test.num_candidates, NUM_ITEMS - 3)
    valid = robustness.protocol(split(), KEY, valid=True)
    np.testing.assert_array_equal(valid.ranking.num_candidates, NUM_ITEMS - 2)
    assert valid.list_length == 10
    assert robustness.protocol(split(), KEY, list_length=99).list_length == NUM_ITEMS


def test_lists_hold_unseen_items_and_their_length_is_the_protocols():
    known = np.r_[split().train.users, split().valid.users], np.r_[split().train.items, split().valid.items]
    seen = set(zip(*(column.tolist() for column in known), strict=True))
    for it in measured("none").values():
        assert it.lists.shape == (NUM_USERS, 3)
        assert not seen & {(user, item) for user, items in enumerate(it.lists.tolist()) for item in items}


def test_each_measurement_is_reported_as_it_is_made():
    reported = []
    found = robustness.measure(
        MODEL, trained(), protocol(), {}, EPSILONS, surface=SURFACE, key=KEY, report=reported.append
    )
    assert reported == found
    assert [it.attack for it in found] == ["none"]


def test_epsilon_0_gives_the_clean_ranks():
    clean = measured("none")["absolute", "none", 0.0].ranks.ranks
    np.testing.assert_array_equal(clean, evaluate.evaluate(MODEL, trained(), protocol().ranking).ranks)
    for (_, attack, epsilon), it in measured("none").items():
        if epsilon == 0:
            np.testing.assert_array_equal(it.ranks.ranks, clean, err_msg=attack)
            assert it.achieved_norm == 0


def test_attacks_spend_their_budget_raise_the_loss_and_lower_the_ranking():
    for unit, radii in EPSILONS.items():
        at = lambda attack, epsilon, unit=unit: measured("none")[unit, attack, epsilon]
        before, noise, fgsm_, pgd_ = (
            at("fgsm", 0.0),
            *(at(attack, radii[1]) for attack in ("random_noise", "fgsm", "pgd")),
        )
        for it in (noise, fgsm_, pgd_):
            assert it.achieved_norm == pytest.approx(radii[1], rel=1e-4)
        assert before.loss < noise.loss < fgsm_.loss < pgd_.loss
        assert before.ranks.ranks.mean() <= noise.ranks.ranks.mean() < pgd_.ranks.ranks.mean()


@pytest.mark.parametrize("mix", ["3P, Q/3", "invertible"])
def test_relative_results_do_not_depend_on_the_gauge_and_absolute_ones_do(mix):
    before, after = measured("none"), measured(mix)
    for (unit, attack, epsilon), it in after.items():
        same = before[unit, attack, epsilon]
        if unit == "relative" or attack == "none":
            np.testing.assert_array_equal(it.ranks.ranks, same.ranks.ranks, err_msg=f"{attack} {epsilon}")
            np.testing.assert_allclose(it.loss, same.loss, rtol=1e-3, err_msg=f"{attack} {epsilon}")
        elif epsilon > 0 and attack != "random_noise":
            assert abs(it.loss - same.loss) > 0.01 * same.loss, attack


def test_any_adversary_can_be_measured_and_the_loss_is_its_own():
    """Epsilon 0 leaves the clean loss: minus the squared error of all predictions to 1, which rises under attack."""
    users, items = (column.ravel() for column in np.indices((NUM_USERS, NUM_ITEMS)))
    found = robustness.measure(
        MODEL, trained(), protocol(), {"fgsm": ATTACKS["fgsm"]}, {"absolute": (0.0, 0.1)},
        surface=SURFACE, key=KEY, adversary=targeted.rating(users, items),
    )  # fmt: skip
    scores = np.asarray(trained()["tables"]["user"]) @ np.asarray(trained()["tables"]["item"]).T
    _, clean, attacked = found
    assert clean.loss == pytest.approx(-np.mean((scores - 1) ** 2), rel=1e-5)
    assert attacked.loss > clean.loss


def test_queries_of_an_estimated_gradient_are_in_the_measurement():
    black_box = lambda *args: oracles.nes(adversaries.softmax()(*args), num_samples=3)
    _, attacked = robustness.measure(
        MODEL, trained(), protocol(), {"pgd": ATTACKS["pgd"]}, {"relative": (0.1,)},
        surface=SURFACE, key=KEY, adversary=black_box,
    )  # fmt: skip
    assert (attacked.gradient_evaluations, attacked.queries) == (3, 3 * 6 + 1)


@pytest.mark.parametrize("unit", ["relativ", "Absolute", ""])
def test_a_misspelt_unit_is_refused_before_anything_is_measured(unit):
    with pytest.raises(ValueError, match=f"units .* got '{unit}'"):
        robustness.measure(
            MODEL, trained(), protocol(), ATTACKS, {"absolute": (0.1,), unit: (0.1,)},
            surface=SURFACE, key=KEY, report=lambda measurement: pytest.fail("measured"),
        )  # fmt: skip


def test_validation_is_the_clean_ndcg_and_that_under_the_attack_the_same_at_every_call():
    ask = lambda epsilon: robustness.validation(
        MODEL, split(), ATTACKS["fgsm"], epsilon=epsilon, surface=SURFACE, key=KEY, k=3
    )
    found = ask(0.3)(trained())
    known_key, attack_key = jax.random.split(KEY)
    held = robustness.protocol(split(), known_key, list_length=3, valid=True)
    clean, attacked = robustness.measure(
        MODEL, trained(), held, {"fgsm": ATTACKS["fgsm"]}, {"relative": [0.3]}, surface=SURFACE, key=attack_key
    )
    expected = [float(metrics.ndcg(it.ranks.ranks, 3, NUM_ITEMS).mean()) for it in (clean, attacked)]
    assert list(found.values()) == expected
    assert found["valid_robust_ndcg"] < found["valid_ndcg"]
    assert ask(0.3)(trained()) == found
    nothing = ask(0.0)(trained())
    assert nothing["valid_robust_ndcg"] == nothing["valid_ndcg"] == found["valid_ndcg"]
