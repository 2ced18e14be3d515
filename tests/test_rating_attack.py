"""Laws of the attack on predicted 4s: what counts, where a level is crossed, and shared adversaries against private."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import rating_attack, surfaces
from jaxrec.attacks import pgd, random_noise
from jaxrec.models import biased_mf
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, DIMENSION = 5, 6, 2
MODEL = biased_mf.model(num_users=NUM_USERS, num_items=NUM_ITEMS, dimension=DIMENSION, mean=3.6)
EPSILONS = {"absolute": [1.5, 0.5, 1.0], "relative": [1.0]}


def make_params(seed):
    rng = np.random.default_rng(seed)
    draw = lambda rows: jnp.asarray(rng.normal(size=(rows, DIMENSION + 1)), jnp.float32)
    return {"tables": {"user": draw(NUM_USERS), "item": draw(NUM_ITEMS)}, "weights": {}, "given": {}}


def make_test():
    users, items = np.divmod(np.arange(0, NUM_USERS * NUM_ITEMS, dtype=np.int32), NUM_ITEMS)
    ratings = np.resize(np.float32([1, 5, 3, 4]), len(users))
    return Interactions(users, items, NUM_USERS, NUM_ITEMS, ratings=ratings)


def make_bench():
    rows = surfaces.tables("user", "item")
    train = Interactions(np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32), NUM_USERS, NUM_ITEMS)
    threats = [
        rating_attack.Threat(rows, True, "rows"),
        rating_attack.Threat(surfaces.columns(rows, DIMENSION), False, "embeddings"),
    ]
    attacks = {
        "noise": lambda epsilon: random_noise.attack(epsilon=epsilon),
        "PGD-5": lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=5),
    }
    return rating_attack.bench(MODEL, train, make_test(), threats, attacks)


@pytest.fixture(scope="module")
def measured():
    """{(attack, surface, unit): curve} of two models on one bench, and how often each attack was compiled."""
    bench = make_bench()
    found = [rating_attack.measure(bench, make_params(seed), EPSILONS, key=jax.random.key(0)) for seed in (0, 1)]
    by_name = [{(curve.attack, curve.surface, curve.unit): curve for curve in curves} for curves in found]
    return by_name, [perturb._cache_size() for perturb in bench.attacks.values()]


def test_there_is_a_curve_of_every_attack_surface_and_unit_and_each_attack_is_compiled_once(measured):
    curves, compiled = measured
    assert len(curves[0]) == (2 + 1) * 2 * 2 == rating_attack.num_curves(make_bench(), EPSILONS)
    assert compiled == [1] * 4
    assert list(curves[0]["noise", "rows", "absolute"].epsilons) == [0.5, 1.0, 1.5]
    assert curves[0]["PGD-5", "rows", "absolute"].gradient_evaluations == 5


def test_no_shared_perturbation_drives_more_down_than_the_private_ones(measured):
    """Nor sooner. With two numbers a row and thirty predictions the shared one is far behind."""
    behind = 0
    for curves in measured[0]:
        for (attack, surface, unit), curve in curves.items():
            private = curves[rating_attack.PRIVATE, surface, unit]
            assert (np.array(curve.shares) <= private.shares).all()
            for shared, alone in zip(curve.smallest, private.smallest, strict=True):
                assert shared is None or alone <= shared
            behind += attack == "PGD-5" and curve.shares[-1] < private.shares[-1]
    assert behind > 0


def test_to_move_biases_too_helps_a_private_adversary_of_absolute_radius(measured):
    for curves in measured[0]:
        rows, embeddings = (curves[rating_attack.PRIVATE, name, "absolute"] for name in ("rows", "embeddings"))
        assert rows.shares[1] > embeddings.shares[1] > 0


def test_a_share_is_that_of_the_fours_alone(measured):
    """A whole number of them; and every perturbation lies in its ball."""
    curves, _ = measured
    num_fours = int(rating_attack.fours(rating_attack.predictions(MODEL, make_params(0), make_test())).sum())
    assert 2 <= num_fours < len(make_test())
    for curve in curves[0].values():
        for share in curve.shares:
            assert share * num_fours == pytest.approx(round(share * num_fours), abs=1e-6)
            assert 0 <= share <= 1
        assert np.all(np.array(curve.achieved_norms) <= np.array(curve.epsilons) * (1 + 1e-5))


def test_model_without_a_four_is_refused():
    flat = jax.tree.map(jnp.zeros_like, make_params(0))
    flat["tables"]["user"] = flat["tables"]["user"].at[:, -1].set(-2.0)
    with pytest.raises(ValueError, match="about 4, got none"):
        rating_attack.measure(make_bench(), flat, EPSILONS, key=jax.random.key(0))


def test_predictions_that_round_to_four_are_fours():
    predicted = np.float32([3.49, 3.5, 4.0, 4.49, 4.5, 1.0])
    np.testing.assert_array_equal(rating_attack.fours(predicted), [False, True, True, True, False, False])


@pytest.mark.parametrize(("level", "expected"), [(0.5, 0.5), (0.8, 0.8), (0.1, 0.1)])
def test_a_crossing_is_bisected_in_the_first_step_of_the_grid_that_reaches_the_level(level, expected):
    """The share rises to epsilon 1 and falls after it: an attack that steps too far."""
    share = lambda epsilon: epsilon if epsilon <= 1 else 2 - epsilon
    epsilons = [0.25, 0.75, 1.0, 1.5]
    found = rating_attack.crossing(share, epsilons, [share(epsilon) for epsilon in epsilons], level)
    assert found is not None
    assert share(found) >= level
    assert expected <= found <= expected + 0.5 / 2**6


def test_a_level_that_the_grid_does_not_reach_has_no_crossing():
    assert rating_attack.crossing(lambda epsilon: 0.4, [1.0, 2.0], [0.1, 0.4], 0.5) is None
