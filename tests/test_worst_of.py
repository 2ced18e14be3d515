"""The strongest of several attacks, shared by all or private to each user, and a control with as many candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import evaluate, norms, oracles, worst_of
from jaxrec.attacks import fgsm, pgd, random_noise

KEY = jax.random.key(2)
X = jnp.zeros((3, 2))


def fixed(delta, gradient_evaluations=0, queries=1):
    """An attack that always finds `delta`."""

    def attack(key, oracle, x):
        info = {"losses": oracle.losses(key, x + delta), "norms": norms.L2.size(delta)}
        return delta, info | {"gradient_evaluations": gradient_evaluations, "queries": queries}

    return attack


LEFT = jnp.array([[3.0, 4.0], [1.0, 0.0], [-1.0, 0.0]])
RIGHT = jnp.array([[1.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])


def test_each_unit_gets_its_strongest_delta_or_none():
    """Losses are the sums of rows: LEFT wins the first, RIGHT the second, nothing the third."""
    oracle = oracles.white_box(lambda key, x: jnp.sum(x, axis=1))
    delta, info = worst_of.shared([fixed(LEFT), fixed(RIGHT)])(KEY, oracle, X)
    np.testing.assert_array_equal(delta, [[3, 4], [0, 2], [0, 0]])
    np.testing.assert_array_equal(info["losses"], [7, 2, 0])
    np.testing.assert_array_equal(info["norms"], [5, 2, 0])


def test_with_one_loss_one_attacks_delta_is_taken_whole():
    total = oracles.white_box(lambda key, x: jnp.sum(x, keepdims=True)[0])
    for attacks in ([fixed(LEFT), fixed(RIGHT)], [fixed(RIGHT), fixed(LEFT)]):
        delta, info = worst_of.shared(attacks)(KEY, total, X)
        np.testing.assert_array_equal(delta, LEFT)
        np.testing.assert_array_equal(info["norms"], [5, 1, 1])
    # 7 + 1 - 1 and 1 + 2 - 2 the other way round are both below nothing.
    delta, info = worst_of.shared([fixed(-LEFT), fixed(-RIGHT)])(KEY, total, X)
    np.testing.assert_array_equal(delta, 0)
    np.testing.assert_array_equal(info["norms"], 0)


def test_the_cost_is_that_of_all_attacks_and_of_comparing_them():
    count = {"losses": 0}

    def losses(key, x):
        jax.debug.callback(lambda: count.update(losses=count["losses"] + 1))
        return jnp.sum(jnp.sin(x), axis=1)

    oracle = oracles.nes(oracles.white_box(losses), num_samples=3)
    attacks = [fgsm.attack(epsilon=0.1), pgd.attack(epsilon=0.1, num_steps=2), random_noise.attack(epsilon=0.1)]
    _, info = jax.jit(lambda key: worst_of.shared(attacks)(key, oracle, X))(KEY)
    jax.effects_barrier()
    assert info["gradient_evaluations"] == 3
    # Each of three gradients asks 6 times, each attack once for its result, and the comparison 4 times.
    assert count["losses"] == info["queries"] == 3 * 6 + 3 + 4


def test_randomness_of_the_oracle_favours_no_attack():
    """All candidates are compared under one key, so the noise of the losses is the same for all."""
    noisy = oracles.white_box(lambda key, x: jnp.sum(x, axis=1) + 100 * jax.random.normal(key, (3,)))
    for seed in range(5):
        delta, _ = worst_of.shared([fixed(LEFT), fixed(RIGHT)])(jax.random.key(seed), noisy, X)
        np.testing.assert_array_equal(delta, [[3, 4], [0, 2], [0, 0]])


def test_attacks_get_different_keys():
    noise = random_noise.attack(epsilon=1.0)
    oracle = oracles.white_box(lambda key, x: jnp.sum(x, axis=1))
    best_of = lambda num: worst_of.shared([noise] * num)(KEY, oracle, jnp.zeros((200, 2)))[1]["losses"].mean()
    assert best_of(8) > best_of(1) + 0.2


def test_no_attacks_are_refused():
    with pytest.raises(ValueError, match="at least one attack"):
        worst_of.shared([])


def test_the_control_is_the_best_of_its_draws():
    """Mean of the largest of num first coordinates on the circle, and 0: 1 / pi for one draw, near 1 for many."""
    oracle = oracles.white_box(lambda key, x: x[:, 0])
    many = jnp.zeros((4000, 2))
    means = {}
    for num in (1, 2, 30):
        delta, info = worst_of.control(num, epsilon=1.0)(KEY, oracle, many)
        sizes = np.asarray(norms.L2.size(delta))
        np.testing.assert_allclose(sizes[sizes > 0], 1, rtol=1e-5)
        assert (info["losses"] >= 0).all()
        assert (info["gradient_evaluations"], info["queries"]) == (0, num + 2)
        means[num] = float(info["losses"].mean())
    assert means[1] == pytest.approx(1 / np.pi, abs=0.03)
    assert means[1] + 0.1 < means[2] < means[30]
    assert means[30] > 0.95


def test_the_control_of_shared_tables_is_one_draw_with_every_row_at_epsilon():
    oracle = oracles.white_box(lambda key, x: jnp.sum(x["a"], keepdims=True)[0] + jnp.sum(x["b"]))
    x = {"a": jnp.zeros((4, 3)), "b": jnp.zeros((2, 3))}
    delta, info = worst_of.control(9, epsilon=0.3, norm=norms.LINF)(KEY, oracle, x)
    assert info["losses"][0] > 0
    for name in delta:
        np.testing.assert_allclose(norms.LINF.size(delta[name]), 0.3, rtol=1e-5)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="num=0"):
        worst_of.control(0, epsilon=0.1)


def ranks(values, users=(0, 2, 5), num_candidates=(9, 9, 8)):
    return evaluate.Ranks(np.array(users), np.array(values, float), np.array(num_candidates), 4)


def test_per_user_takes_each_users_worst_rank():
    found = worst_of.per_user([ranks([1, 5, 2]), ranks([3, 4, 2]), ranks([2, 2, 8])])
    np.testing.assert_array_equal(found.ranks, [3, 5, 8])
    np.testing.assert_array_equal(found.users, [0, 2, 5])
    assert found.num_left_out == 4


def test_per_user_is_at_least_as_bad_as_each_shared_perturbation():
    several = [ranks(np.random.default_rng(seed).integers(1, 9, 3)) for seed in range(4)]
    assert all((worst_of.per_user(several).ranks >= each.ranks).all() for each in several)


@pytest.mark.parametrize(
    ("several", "message"),
    [
        ([], "at least one perturbation"),
        ([ranks([1, 2, 3]), ranks([1, 2, 3], users=(0, 2, 6))], "different users"),
        ([ranks([1, 2, 3]), ranks([1, 2, 3], num_candidates=(9, 9, 9))], "different num_candidates"),
    ],
)
def test_ranks_of_different_protocols_are_refused(several, message):
    with pytest.raises(ValueError, match=message):
        worst_of.per_user(several)
