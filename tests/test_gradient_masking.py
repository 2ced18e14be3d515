"""Flags on numbers that cannot be trusted: each trips on a model built for it, and on no more than that."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import (
    gradient_masking,
    losses,
    norms,
    objectives,
    oracles,
    perturbations,
    robustness,
    surfaces,
)
from jaxrec.attacks import pgd, random_noise
from jaxrec.gradient_masking import Reached
from jaxrec.models import mf
from jaxrec.types import InputError, Interactions, Model, Split

NUM_USERS, NUM_ITEMS, DIM = 25, 16, 4  # nothing is known of the last user
SURFACE = surfaces.tables("user", "item")
PLAIN = mf.model(num_users=NUM_USERS, num_items=NUM_ITEMS, dimension=DIM, init_scale=0.5)
KEY = jax.random.key(5)

RANDOM = "random outputs"
GRADIENTS = "zero or non-finite gradients"
BLACK_BOX = "black box or transfer beats white box"
EFFORT = "more effort, less loss"
HUGE = "a huge epsilon does not break it"
NOISE = "noise does as much as the attack"
RESCALING = "a rescaling that keeps every score moves the number"
NAMES = [RANDOM, GRADIENTS, BLACK_BOX, EFFORT, HUGE, NOISE, RESCALING]


@functools.cache
def protocol():
    """Four tastes of six users and four items: of its four, each user trains on three and holds out one."""
    users = np.repeat(np.arange(24, dtype=np.int32), 4)
    place = np.tile(np.arange(4), 24)
    items = (4 * (users // 6) + (users + place) % 4).astype(np.int32)
    whole = Interactions(users, items, NUM_USERS, NUM_ITEMS)
    made = robustness.protocol(Split(whole.take(place < 3), whole.take(place < 0), whole.take(place == 3)), KEY)
    # An example of the last user that does not count.
    padded = {
        name: jnp.append(column, jnp.asarray(24 if name == "users" else 0, column.dtype))
        for name, column in made.known.batch.items()
    }
    return made._replace(known=made.known._replace(batch=padded))


@functools.cache
def trained(scale: float = 1.0) -> dict:
    """Forty steps of gradient descent on BPR; then all tables are multiplied."""
    clean, batch = objectives.pairwise(model=PLAIN), protocol().known.batch
    slope = jax.grad(lambda params: clean(params, batch, KEY, lambda tree: tree)[0])
    step = lambda _, params: jax.tree.map(lambda x, g: x - 0.1 * g, params, slope(params))
    params = jax.jit(lambda params: jax.lax.fori_loop(0, 40, step, params))(PLAIN.init(jax.random.key(0)))
    return jax.tree.map(lambda table: scale * table, params)


def bpr(model, params, surface, known, *, scale_free=True):
    """The adversary who raises BPR, margins divided by their spread at `params` or as they are."""
    batch = known.batch
    margins = model.score(params, batch["users"], batch["pos"]) - model.score(params, batch["users"], batch["neg"])
    scale = 1 / jnp.std(margins) if scale_free else 1.0
    clean = objectives.pairwise(model=model, loss=lambda pos, neg: losses.bpr(scale * pos, scale * neg))
    return oracles.white_box(lambda key, x: clean(surface.put(params, x), batch, key, lambda tree: tree)[0][None])


def random_search(epsilon):
    """The best of 20 drawings of noise."""

    def attack(key, oracle, x):
        def draw(best, key):
            delta, _ = random_noise.attack(epsilon=epsilon)(key, oracle, x)
            return perturbations.better(best, perturbations.candidate(key, oracle, x, delta)), None

        nothing = perturbations.candidate(key, oracle, x, jax.tree.map(jnp.zeros_like, x))
        (_, delta), _ = jax.lax.scan(draw, nothing, jax.random.split(key, 20))
        return perturbations.outcome(key, oracle, norms.L2, x, delta, gradient_evaluations=0, queries=21)

    return attack


SEARCH = {"random search": (random_search, lambda *at: oracles.black_box(bpr(*at)))}


def backwards(**options):
    """PGD with a sign error."""

    def attack(key, oracle, x):
        descent = lambda key, x: jax.tree.map(jnp.negative, oracle.grad(key, x))
        return pgd.attack(**options)(key, oracle._replace(grad=descent), x)

    return attack


def random_steps() -> Model:
    """MF with scores in steps, which have no slope, and noise on the lists' scores that JAX knows nothing of.

    (A program with a call to the host is compiled anew each time, so the loss has none.)
    """
    state = np.random.default_rng(0)
    draw = lambda like: state.normal(scale=1e-4, size=like.shape).astype(np.float32)
    steps = lambda scores: jnp.round(8 * scores) / 8

    def score_all(params, users):
        scores = PLAIN.score_all(params, users)
        return steps(scores) + jax.pure_callback(draw, jax.ShapeDtypeStruct(scores.shape, np.float32), scores)

    return dataclasses.replace(
        PLAIN, score=lambda *at: steps(PLAIN.score(*at)), score_all=score_all, score_pairs=None, score_rows=None
    )


class Case(NamedTuple):
    """A victim, how it is inspected, and the flags that must trip: these and no others."""

    tripped: set[str]
    model: Model = PLAIN
    options: Mapping[str, Any] = MappingProxyType({})


CASES = {
    "plain": Case(set()),
    "random steps": Case({RANDOM, GRADIENTS, BLACK_BOX, HUGE, NOISE}, random_steps(), {"black_box": SEARCH}),
    "sign error, absolute epsilon": Case(
        {EFFORT, HUGE, NOISE, RESCALING}, options={"attack": backwards, "unit": "absolute", "epsilon": 1.0}
    ),
}


@functools.cache
def inspected(name):
    case = CASES[name]
    options = {"adversary": bpr, "num_steps": 4, "epsilon": 0.5, "k": 3} | dict(case.options)
    flags = gradient_masking.inspect(case.model, trained(), protocol(), surface=SURFACE, key=KEY, **options)
    return {flag.name: flag for flag in flags}


@pytest.mark.parametrize("name", CASES)
def test_the_flags_that_trip_are_those_a_model_was_built_for(name):
    found = inspected(name)
    assert list(found) == NAMES
    assert {flag.name for flag in found.values() if flag.tripped} == CASES[name].tripped, found


def test_a_flag_says_what_was_tested():
    assert "relative epsilon 0.5 in the canonical gauge" in inspected("plain")[RESCALING].evidence
    absolute = inspected("sign error, absolute epsilon")
    assert "absolute epsilon 1 in the gauge of training" in absolute[RESCALING].evidence
    assert "24 (100.0%) are exactly zero" in inspected("random steps")[GRADIENTS].evidence  # not the user unknown
    assert inspected("plain")[BLACK_BOX].tripped is None
    assert "NDCG@3" in inspected("plain")[HUGE].evidence


def test_the_random_ranking_is_the_mean_over_all_ranks():
    """Thirteen candidates each: 16 items less three in training."""
    chance = sum(1 / math.log2(1 + rank) for rank in (1, 2, 3)) / 13
    assert f"{chance:.4f} in a random ranking" in inspected("plain")[HUGE].evidence


def test_a_call_that_differs_in_one_bit_is_random_and_nan_equals_itself():
    first = {"scores": np.array([1.0, np.nan, np.inf]), "losses": np.zeros(2)}
    assert not gradient_masking.random_outputs(first, jax.tree.map(np.copy, first)).tripped
    flag = gradient_masking.random_outputs(first, first | {"losses": np.array([0, 1e-30])})
    assert flag.tripped
    assert "1 of 5 outputs" in flag.evidence


@pytest.mark.parametrize(("scale_free", "tripped"), [(False, True), (True, False)])
def test_large_tables_have_no_gradient_of_a_loss_that_saturates(scale_free, tripped):
    """Tables a hundred times as large: margins are thousands, and raw BPR's float32 gradients exactly zero."""
    params, part = trained(100.0), {"user": np.arange(NUM_USERS) < 24, "item": np.ones(NUM_ITEMS, bool)}
    oracle = bpr(PLAIN, params, SURFACE, protocol().known, scale_free=scale_free)
    assert oracle.grad is not None
    assert gradient_masking.lost_gradients(jax.jit(oracle.grad)(KEY, SURFACE.get(params)), part).tripped == tripped


def test_rows_without_a_gradient_are_counted_among_those_that_take_part():
    grad = np.ones((200, 2))
    grad[:3] = 0
    part = np.arange(200) > 0
    flag = gradient_masking.lost_gradients({"user": grad}, {"user": part})
    assert flag.tripped  # 2 of 199 are more than 1 %
    assert "of 199 rows of table user 2 (1.0%) are exactly zero, 0 (0.0%) not finite" in flag.evidence
    assert not gradient_masking.lost_gradients({"user": grad}, {"user": part}, max_share=0.02).tripped
    assert not gradient_masking.lost_gradients({"user": grad}, {"user": np.arange(200) > 1}).tripped  # 1 of 198
    for broken in (np.nan, np.inf):
        grad[150, 1] = broken
        flag = gradient_masking.lost_gradients(
            {"item": np.ones((4, 1)), "user": grad}, {"item": np.ones(4, bool), "user": part}, max_share=1.0
        )
        assert flag.tripped
        assert "1 (0.5%) not finite" in flag.evidence


@pytest.mark.parametrize(("loss", "tripped"), [(9.9, False), (10.009, False), (10.02, True), (math.nan, True)])
def test_a_black_box_that_ends_higher_than_the_white_box_trips(loss, tripped):
    flag = gradient_masking.black_box_wins(10.0, {"square": 5.0, "SPSA": loss})
    assert flag.tripped == tripped
    assert "raises the loss to 10; square 5, SPSA" in flag.evidence


def test_what_was_not_tested_is_neither_tripped_nor_silent():
    clean = Reached(1.0, 0.5)
    found = gradient_masking.black_box_wins(1.0, {}), gradient_masking.rescaling_moves(clean, clean, {}, budget="")
    for flag in found:
        assert flag.tripped is None
        assert flag.evidence.startswith("Not tested")


@pytest.mark.parametrize(
    ("losses", "tripped"),
    [
        ((1.0, 1.5, 2.0), False),
        ((1.0, 1.5, 1.4995), False),
        ((1.0, 1.5, 1.4), True),
        ((-1.0, -0.5, -0.6), True),
        ((1.0, math.nan, 2.0), True),
        # Each step within the tolerance, both together not.
        ((1.5, 1.499, 1.498), True),
    ],
)
def test_more_effort_that_ends_lower_than_any_less_did_trips(losses, tripped):
    rising = [(0, 1.0), (0.5, 3.0)]
    flag = gradient_masking.effort_backfires({"epsilon": rising, "steps": list(zip((1, 5, 10), losses, strict=True))})
    assert flag.tripped == tripped


def test_lower_losses_are_named():
    flag = gradient_masking.effort_backfires({"steps": [(1, 2.0), (5, 3.0), (10, 2.5)]})
    assert flag.evidence == "The loss is lower for more effort: 3 with steps 5, 2.5 with 10."


@pytest.mark.parametrize(
    ("clean", "attacked", "tripped"),
    [(0.4, 0.19, False), (0.4, 0.21, True), (0.05, 0.04, False), (0.05, 0.06, True), (0.4, math.nan, True)],
)
def test_a_huge_epsilon_must_halve_the_metric_or_reach_chance(clean, attacked, tripped):
    assert gradient_masking.unbreakable(clean, attacked, 0.05, epsilon="10").tripped == tripped


@pytest.mark.parametrize(
    ("noise", "attacked", "tripped"),
    [
        (Reached(1.4, 0.46), Reached(2.0, 0.4), False),
        (Reached(1.6, 0.5), Reached(2.0, 0.4), True),  # more than half of the rise
        (Reached(1.0, 0.44), Reached(2.0, 0.4), True),  # more than half of the drop
        (Reached(0.9, 0.5), Reached(0.95, 0.4), True),  # the attack does not raise the loss
        (Reached(1.0, 0.52), Reached(2.0, 0.51), True),  # the attack does not lower the metric
        (Reached(math.nan, 0.5), Reached(2.0, 0.4), True),
    ],
)
def test_noise_must_do_less_than_half_of_what_the_attack_does(noise, attacked, tripped):
    assert gradient_masking.noise_suffices(Reached(1.0, 0.5), noise, attacked).tripped == tripped


@pytest.mark.parametrize(
    ("rescaled", "tripped"),
    [
        (Reached(2.01, 0.204), False),
        (Reached(2.03, 0.2), True),
        (Reached(2.0, 0.206), True),
        (Reached(math.nan, 0.2), True),
    ],
)
def test_a_rescaling_may_move_a_hundredth_of_the_loss_and_of_the_clean_metric(rescaled, tripped):
    again = {"same": Reached(2.0, 0.2), "other": rescaled}
    flag = gradient_masking.rescaling_moves(Reached(1.0, 0.5), Reached(2.0, 0.2), again, budget="epsilon 1")
    assert flag.tripped == tripped


def test_rescalings_keep_products_and_change_every_relation_of_the_tables():
    tables = {name: np.asarray(table) for name, table in trained()["tables"].items()}
    found = gradient_masking.rescalings(trained(), KEY)
    assert list(found) == ["3P, Q/3", "a random invertible matrix"]
    np.testing.assert_array_equal(found["3P, Q/3"]["tables"]["user"], 3 * tables["user"])
    for params in found.values():
        user, item = params["tables"]["user"], params["tables"]["item"]
        np.testing.assert_allclose(user @ item.T, tables["user"] @ tables["item"].T, atol=1e-5)
        mix = np.linalg.lstsq(tables["user"], np.asarray(user), rcond=None)[0]
        sizes = np.linalg.svd(mix, compute_uv=False)
        assert sizes.min() >= 1 / 3 - 1e-5
        assert sizes.max() <= 3 + 1e-5
        assert np.abs(mix.T @ mix - np.eye(DIM)).max() > 0.3  # no rotation, which would change no norm


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"epsilon": 0.0}, ValueError, r"epsilon=0\.0"),
        ({"epsilon": math.nan}, ValueError, "epsilon=nan"),
        ({"num_steps": 1}, ValueError, "num_steps > 1.*num_steps=1"),
        ({"num_restarts": 2}, ValueError, "num_restarts > 2.*num_restarts=2"),
        ({"k": NUM_ITEMS + 1}, InputError, f"k={NUM_ITEMS + 1}"),
        ({"rescaled": {"3P": 3.0}, "k": 3}, ValueError, "same scores.*'3P'"),
    ],
)
def test_what_cannot_be_inspected_is_refused_by_name(wrong, error, message):
    options = {"epsilon": 0.5, "adversary": bpr} | wrong
    if "rescaled" in wrong:
        options["rescaled"] = {name: trained(scale) for name, scale in wrong["rescaled"].items()}
    with pytest.raises(error, match=message):
        gradient_masking.inspect(PLAIN, trained(), protocol(), surface=SURFACE, key=KEY, **options)
