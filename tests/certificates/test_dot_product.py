"""The bound against adversaries who know the held-out item, and against its own closed forms in float64.

Tolerances: a certificate in float32 leaves out what rounding might turn, some 1e-5 of the products of the norms.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ranking_cases

from jaxrec import evaluate, metrics, oracles
from jaxrec.attacks import fgsm, pgd, random_noise
from jaxrec.certificates import dot_product
from jaxrec.models import mf
from jaxrec.types import InputError, Interactions

BOTH, ITEM, USER = dot_product.Radii(user=1.0, item=0.7), dot_product.Radii(item=1.0), dot_product.Radii(user=1.0)
BUDGETS = {"both": BOTH, "item": ITEM, "user": USER, "all": BOTH._replace(bias=0.2)}
FALLS = {"sufficient": dot_product.sufficient, "pairwise": dot_product.pairwise}
EPSILONS = (0.0, 0.1, 0.3, 0.8, 2.0)  # as many wherever ranks are asked for: one compilation
every_fall = pytest.mark.parametrize("fall", FALLS.values(), ids=FALLS)


def certified(cases, budget, epsilons=EPSILONS, fall=dot_product.sufficient):
    budget = dot_product.Radii(*map(float, budget))
    return np.asarray(dot_product.ranks(cases.factors, cases.plan, budget, jnp.asarray(epsilons), fall=fall))


# Models by themselves, for the ranks of `evaluate`.
dots = lambda params, users: params["tables"]["user"][users] @ params["tables"]["item"].T
PLAIN, BIASED = (
    dataclasses.replace(mf.model(num_users=1, num_items=1), score_all=score_all)
    for score_all in (dots, lambda params, users: dots(params, users) + params["tables"]["item_bias"][None])
)


def soft_rank(scores, target, where):
    """A smooth number of candidates above the target."""
    return jnp.sum(jax.nn.sigmoid(2 * (scores - scores[target])) * where)


def worst_margin(scores, target, where):
    return jnp.max(jnp.where(where, scores, -jnp.inf)) - scores[target]


ATTACKS = [
    (lambda epsilon: fgsm.attack(epsilon=epsilon), soft_rank),
    (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=20), soft_rank),
    (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=20, random_start=True, num_restarts=2), worst_margin),
    (lambda epsilon: random_noise.attack(epsilon=epsilon), worst_margin),
]
NUM_TRIES = 3  # of each attack, with keys of their own


def attacked_scores(key, user, item, bias, target, where, epsilon, budget):
    """Scores [attacks, I] of one user whose own adversary perturbs its row and its copies of the items' tables."""

    def scores_of(x):
        moved = {"user": user + budget.user * x["user"][0], "item": item + budget.item * x["item"]}
        return moved["item"] @ moved["user"] + bias + budget.bias * x["bias"][:, 0]

    found = []
    for number, (make, loss) in enumerate(ATTACKS):
        oracle = oracles.white_box(lambda key, x, loss=loss: loss(scores_of(x), target, where)[None])
        x = {"user": jnp.zeros((1, len(user))), "item": jnp.zeros_like(item), "bias": jnp.zeros((len(item), 1))}
        keys = jax.random.split(jax.random.fold_in(key, number), NUM_TRIES)
        found.append(jax.lax.map(lambda key: scores_of(make(epsilon)(key, oracle, x)[0]), keys))  # noqa: B023
    return jnp.concatenate(found)


# -> [attacks, U, I]; called a hundred times, so it pays to compile it with some optimisation
against_every_user = jax.jit(
    jax.vmap(attacked_scores, in_axes=(0, 0, None, None, 0, 0, None, None), out_axes=1),
    compiler_options={"xla_backend_optimization_level": 1},
)


@pytest.mark.parametrize("name", BUDGETS)
def test_no_attack_beats_the_certificate(name):
    """With biases in every other case: without them the bound would do without its last term."""
    budget, gained, reached = BUDGETS[name], 0, []
    for seed in ranking_cases.SEEDS:
        cases = ranking_cases.draw(seed, bias=seed % 2 == 1)
        user, item, bias = cases.factors
        bias = jnp.zeros(len(item)) if bias is None else bias
        keys = jax.random.split(jax.random.key(seed), ranking_cases.NUM_USERS)
        clean = ranking_cases.ranks(-ranking_cases.float64(cases)[2], cases)
        bounds = {kind: certified(cases, budget, fall=fall) for kind, fall in FALLS.items()}
        assert (bounds["pairwise"] <= bounds["sufficient"]).all()
        for place, epsilon in enumerate(EPSILONS):
            scores = against_every_user(keys, user, item, bias, cases.targets, cases.where, epsilon, budget)
            attacked = ranking_cases.ranks(np.asarray(scores), cases)
            assert (attacked <= bounds["pairwise"][place]).all()
            gained += (attacked.max(axis=0) > clean).sum()
            reached.append((attacked.max(axis=0) == bounds["pairwise"][place]).mean())
    assert gained > 1000  # the attacks are attacks
    assert np.mean(reached) > (0.6 if name == "user" else 0.8)


@every_fall
def test_certified_ranks_are_those_of_a_loop_in_float64(fall):
    cases = ranking_cases.draw(5, bias=True)
    budget = dot_product.Radii(user=0.0 if fall is dot_product.pairwise else 0.5, item=0.8, bias=0.3)
    user, difference, margins = ranking_cases.float64(cases)
    for epsilon, ranks in zip(EPSILONS, certified(cases, budget, fall=fall), strict=True):
        for row in range(ranking_cases.NUM_USERS):
            uncertain = 0
            for item in np.flatnonzero(cases.where[row]):
                fallen = epsilon * budget.user * np.linalg.norm(difference[row, item])
                fallen += 2 * epsilon * budget.item * np.linalg.norm(user[row])
                fallen += 2 * epsilon**2 * budget.user * budget.item + 2 * epsilon * budget.bias
                uncertain += margins[row, item] <= fallen
            assert ranks[row] == 1 + uncertain


def test_without_biases_the_pairwise_ranks_are_those_of_a_cone():
    """The margin is lost where cos(angle of p + a and d) <= 2 epsilon_i / |d|, |p| sin(angle to there) away."""
    cases = ranking_cases.draw(14)
    user, difference, margins = ranking_cases.float64(cases)
    sizes, lengths = np.linalg.norm(user, axis=1)[:, None], np.linalg.norm(difference, axis=2)
    lengths = np.where(lengths > 0, lengths, 1)
    for epsilon, ranks in zip(EPSILONS, certified(cases, BOTH, fall=dot_product.pairwise), strict=True):
        edge = np.arccos(np.minimum(2 * epsilon * BOTH.item / lengths, 1))
        away = sizes * np.sin(edge - np.arccos(np.clip(margins / (lengths * sizes), -1, 1)))
        np.testing.assert_array_equal(ranks, 1 + ((away <= epsilon * BOTH.user) & cases.where).sum(axis=1))


def test_the_bound_is_the_formula():
    one = lambda value: jnp.full((1, 1), value)
    pairs = dot_product.Pairs(one(9.0), one(9.0), one(5.0), one(2.0), one(3.0), one(0.0), 0.0)
    found = dot_product.sufficient(pairs, dot_product.Radii(user=0.1, item=0.2))
    assert float(found[0, 0]) == pytest.approx(0.1 * 2.0 + 2 * 0.2 * 5.0 + 2 * 0.1 * 0.2, rel=1e-6)


def plane_pairs(seed, dimension, num=60):
    """Random p, d and radii of all proportions, as the falls see them, and in float64."""
    rng = np.random.default_rng(seed)
    user, difference = rng.normal(size=(2, num, dimension)) * rng.choice([0.1, 1, 3], (2, num, 1))
    difference[:3] = [[-2.0], [0.0], [0.7]] * user[:3]  # along p, and nothing
    user[3] = 0
    radii = rng.choice([0.0, 0.1, 1.0, 4.0], (2, num)) * rng.uniform(0.5, 1, (2, num))
    column = lambda values: jnp.asarray(values[:, None], jnp.float32)
    dots = (user * difference).sum(axis=1)
    sizes = np.linalg.norm(user, axis=1), np.linalg.norm(difference, axis=1)
    pairs = dot_product.Pairs(
        column(dots), column(dots), column(sizes[0]), column(sizes[1]), column(sizes[1]), column(0 * dots), 2.0**-20
    )
    return user, difference, radii, pairs, dot_product.Radii(*map(column, radii))


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_pairwise_fall_is_the_maximum_over_a_fine_grid(dimension):
    user, difference, (of_user, of_item), pairs, radii = plane_pairs(0, dimension)
    found = np.asarray(dot_product.pairwise(pairs, radii))[:, 0]
    angles = np.linspace(0, 2 * np.pi, 20_001)
    for row in range(len(user)):
        # The worst a lies in the plane of p and d (another axis where they span none).
        axes = np.linalg.qr(np.stack([user[row], difference[row], *np.eye(dimension)[:2]], axis=1))[0][:, :2].T
        a = of_user[row] * (np.cos(angles)[:, None] * axes[0] + np.sin(angles)[:, None] * axes[1])
        worst = (2 * of_item[row] * np.linalg.norm(user[row] + a, axis=1) - a @ difference[row]).max()
        assert found[row] >= worst * (1 - 1e-6)
        assert found[row] == pytest.approx(worst, rel=3e-4, abs=3e-4)


def test_no_direction_outside_the_plane_is_worse_than_the_pairwise_fall():
    user, difference, (of_user, of_item), pairs, radii = plane_pairs(1, 5)
    found = np.asarray(dot_product.pairwise(pairs, radii))
    a = np.random.default_rng(2).normal(size=(len(user), 2000, 5))
    a *= of_user[:, None, None] / np.linalg.norm(a, axis=2, keepdims=True)
    fallen = 2 * of_item[:, None] * np.linalg.norm(user[:, None] + a, axis=2) - (a * difference[:, None]).sum(axis=2)
    assert (fallen <= found + 1e-5).all()


def test_the_pairwise_fall_is_no_more_than_the_sufficient_one_and_equal_where_a_radius_is_0():
    _, _, _, pairs, radii = plane_pairs(3, 4)
    both, bound = dot_product.pairwise(pairs, radii), dot_product.sufficient(pairs, radii)
    assert (np.asarray(both) <= np.asarray(bound) * (1 + 1e-3) + 1e-6).all()
    assert (np.asarray(both) < 0.9 * np.asarray(bound)).sum() >= 3
    for alone in (radii._replace(user=0.0), radii._replace(item=0.0)):
        np.testing.assert_allclose(
            dot_product.pairwise(pairs, alone), dot_product.sufficient(pairs, alone), rtol=1e-4, atol=1e-6
        )


@every_fall
def test_the_users_row_alone_attains_the_radius_at_k_1(fall):
    """The closed form: p moves straight against the d that it can turn with the least."""
    cases = ranking_cases.draw(6)
    user, difference, margins = ranking_cases.float64(cases)
    radii = np.asarray(dot_product.radius(cases.factors, cases.plan, USER, 1, fall=fall))
    lengths = np.linalg.norm(difference, axis=2)
    turned_at = np.where(cases.where, margins / np.where(lengths > 0, lengths, 1), np.inf)
    expected = np.maximum(turned_at.min(axis=1), 0)
    np.testing.assert_allclose(radii, expected, rtol=1e-4, atol=1e-4)
    first = np.flatnonzero(expected > 0.01)
    assert len(first) > 20
    weakest = turned_at.argmin(axis=1)
    for row in first:
        step = difference[row, weakest[row]] / lengths[row, weakest[row]]
        left = difference[row] @ (user[row] - 1.001 * radii[row] * step)
        assert (left[cases.where[row]] <= 0).any()


def test_both_tables_attain_the_pairwise_radius_at_k_1():
    cases = ranking_cases.draw(7)
    user, difference, _ = ranking_cases.float64(cases)
    radii = np.asarray(dot_product.radius(cases.factors, cases.plan, BOTH, 1, fall=dot_product.pairwise))
    wider = np.asarray(dot_product.radius(cases.factors, cases.plan, BOTH, 1))
    sphere = np.random.default_rng(0).normal(size=(40_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)

    def smallest_margin(row, epsilon):
        moved = user[row] + epsilon * BOTH.user * sphere
        margins = moved @ difference[row][cases.where[row]].T
        return (margins - 2 * epsilon * BOTH.item * np.linalg.norm(moved, axis=1)[:, None]).min()

    first = np.flatnonzero(radii > 0.01)[:40]
    assert len(first) > 20
    for row in first:
        assert smallest_margin(row, radii[row]) > 0 > smallest_margin(row, 1.002 * radii[row])
    assert (wider <= radii * (1 + 1e-4)).all()
    assert (wider[first] < 0.98 * radii[first]).any()


@every_fall
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_epsilon_0_is_the_clean_ranking_ties_and_all(fall, bias, integers):
    cases = ranking_cases.draw(8, bias=bias, integers=integers)
    expected = evaluate.evaluate(BIASED if bias else PLAIN, {"tables": cases.factors._asdict()}, cases.plan)
    for budget in (dot_product.Radii(user=1.0, item=1.0, bias=1.0), dot_product.Radii()):
        found = dot_product.certify(cases.factors, cases.plan, budget, EPSILONS, fall=fall)[0]
        for actual, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_listed_negatives_are_the_only_candidates():
    cases = ranking_cases.draw(9)
    users = np.arange(ranking_cases.NUM_USERS, dtype=np.int32)
    listed = np.where(cases.where, np.arange(ranking_cases.NUM_ITEMS)[None], -1).astype(np.int32)
    nothing = np.zeros(0, np.int32)
    sizes = ranking_cases.NUM_USERS, ranking_cases.NUM_ITEMS
    plan = evaluate.prepare(
        [Interactions(nothing, nothing, *sizes)], Interactions(users, cases.targets, *sizes), negatives=listed
    )
    np.testing.assert_array_equal(certified(cases._replace(plan=plan), BOTH), certified(cases, BOTH))


def one_user(user, item):
    """A user whose held-out item is item 0, with nothing seen."""
    factors = dot_product.Factors(jnp.asarray([user], jnp.float32), jnp.asarray(item, jnp.float32))
    nothing = np.zeros(0, np.int32)
    test = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32), 1, len(item))
    return factors, evaluate.prepare([Interactions(nothing, nothing, 1, len(item))], test)


def test_a_margin_that_can_just_be_closed_is_not_certain():
    factors, plan = one_user([1, 0], [[1, 0], [0, 0]])
    found = dot_product.certify(factors, plan, ITEM, [0.4999, 0.5, 0.5001])
    assert [float(ranks.ranks[0]) for ranks in found] == [1, 2, 2]


@every_fall
def test_a_margin_within_rounding_is_certain_at_epsilon_0_alone(fall):
    factors, plan = one_user([1, 1, 1], [[1000, 1, np.nextafter(np.float32(1), 2)], [1000, 1, 0.9999]])
    assert float(factors.user[0] @ (factors.item[0] - factors.item[1])) > 0
    found = dot_product.certify(factors, plan, BOTH, [0.0, 1e-30], fall=fall)
    assert [float(ranks.ranks[0]) for ranks in found] == [1, 2]


@pytest.mark.parametrize("k", [1, 2, 6])
def test_the_radius_is_the_kth_smallest_epsilon_that_turns_a_pair(k):
    cases = ranking_cases.draw(10)
    user, difference, margins = ranking_cases.float64(cases)
    slope = BOTH.user * np.linalg.norm(difference, axis=2) + 2 * BOTH.item * np.linalg.norm(user, axis=1)[:, None]
    square = 2 * BOTH.user * BOTH.item
    positive = np.maximum(margins, 0)
    turned_at = np.where(cases.where, 2 * positive / (slope + np.sqrt(slope**2 + 4 * square * positive)), np.inf)
    expected = np.sort(turned_at, axis=1)[:, k - 1]
    radii = np.asarray(dot_product.radius(cases.factors, cases.plan, BOTH, k))
    assert np.isinf(expected).all() == (k == 6)  # only five other candidates
    assert (expected == 0).any() == (k < 6)
    np.testing.assert_allclose(radii, expected, rtol=1e-4, atol=2e-5)


@every_fall
def test_an_item_is_certified_at_its_radius_and_not_beyond(fall):
    cases = ranking_cases.draw(11)
    radii = np.asarray(dot_product.radius(cases.factors, cases.plan, BOTH, 1, fall=fall))
    inside = np.flatnonzero(radii > 1e-3)[: len(EPSILONS)]
    at = certified(cases, BOTH, radii[inside], fall)
    beyond = certified(cases, BOTH, radii[inside] * 1.0001, fall)
    for place, row in enumerate(inside):
        assert at[place, row] == 1 < beyond[place, row]


def test_certified_metrics_fall_as_epsilon_grows():
    cases = ranking_cases.draw(12)
    found = dot_product.certify(cases.factors, cases.plan, BOTH, EPSILONS)
    for metric in (metrics.hit_rate, metrics.ndcg):
        values = [metric(ranks.ranks, 3, ranking_cases.NUM_ITEMS).mean() for ranks in found]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[1] > values[-1]


def test_a_relative_budget_does_not_depend_on_the_gauge():
    cases = ranking_cases.draw(13)
    user, item, _ = cases.factors
    model = mf.model(num_users=ranking_cases.NUM_USERS, num_items=ranking_cases.NUM_ITEMS)
    mix = np.random.default_rng(0).normal(size=(3, 3))

    def ranks(budget_of, user, item):
        params = model.canonical({"tables": {"user": jnp.asarray(user), "item": jnp.asarray(item)}})
        canonical = dot_product.Factors(params["tables"]["user"], params["tables"]["item"])
        plain = dot_product.Factors(jnp.asarray(user), jnp.asarray(item))
        factors = canonical if budget_of is dot_product.relative else plain
        return certified(cases._replace(factors=factors), budget_of(factors))

    others = [(user * 3, item / 3), (user @ mix, (item @ np.linalg.inv(mix).T).astype(np.float32))]
    expected = ranks(dot_product.relative, user, item)
    for other in others:
        assert (ranks(dot_product.relative, *other) != expected).mean() < 0.01  # pairs within rounding
        absolute = lambda factors: BOTH
        assert (ranks(absolute, *other) != ranks(absolute, user, item)).mean() > 0.1


def test_the_relative_budget_is_the_mean_row_norm_and_the_mean_centred_bias():
    factors = dot_product.Factors(
        jnp.asarray([[3.0, 4.0], [0.0, 1.0]]), jnp.asarray([[1.0, 0.0]] * 3), jnp.asarray([9.0, 10.0, 14.0])
    )
    found = dot_product.relative(factors)
    np.testing.assert_allclose(found, [(5 + 1) / 2, 1, (2 + 1 + 3) / 3], rtol=1e-6)
    assert dot_product.relative(factors._replace(item_bias=None)).bias == 0


def test_what_nothing_can_move_has_no_radius_to_end_at():
    factors, plan = one_user([1, 0], [[2, 0], [1, 0], [0, 1]])
    biased = factors._replace(user=jnp.zeros((1, 2)), item_bias=jnp.asarray([1.0, 0.0, 0.0]))
    radius = lambda factors, budget, k: float(dot_product.radius(factors, plan, budget, k)[0])
    assert radius(factors, ITEM, 1) == pytest.approx(0.5, rel=1e-4)
    assert radius(factors, ITEM, 3) == math.inf  # only three items
    assert radius(factors, dot_product.Radii(), 1) == math.inf
    assert radius(biased, ITEM, 1) == math.inf  # item rows do not matter to a user at 0
    assert radius(biased, dot_product.Radii(bias=1.0), 1) == pytest.approx(0.5, rel=1e-4)


def test_bad_input_is_refused_by_name():
    cases = ranking_cases.draw(0)
    user, item, _ = cases.factors
    certify = lambda factors=cases.factors, plan=cases.plan, budget=BOTH, epsilons=(0.1,): dot_product.certify(
        factors, plan, budget, epsilons
    )
    for epsilon in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"epsilon={epsilon}"):
            certify(epsilons=[0.1, epsilon])
        with pytest.raises(ValueError, match=f"item={epsilon}"):
            certify(budget=dot_product.Radii(item=epsilon))
    with pytest.raises(ValueError, match=r"Expected user of shape \(250, 3\), got \(249, 3\)"):
        certify(dot_product.Factors(user[1:], item))
    with pytest.raises(ValueError, match=r"Expected item of shape \(8, 3\), got \(8, 2\)"):
        certify(dot_product.Factors(user, item[:, 1:]))
    with pytest.raises(ValueError, match=r"Expected item_bias of shape \(8,\), got \(7,\)"):
        certify(dot_product.Factors(user, item, jnp.zeros(7)))
    with pytest.raises(ValueError, match='ties="averaged"'):
        certify(plan=dataclasses.replace(cases.plan, ties="averaged"))
    for k in (0, 9):
        with pytest.raises(InputError, match=f"k={k}"):
            dot_product.radius(cases.factors, cases.plan, BOTH, k)
