"""No attack beats a certificate on MovieLens-1M: factors of a truncated SVD of the training matrix.

Among the attackers is one who has all that the certificates grant: it knows the held-out items.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

from jaxrec import adversaries, evaluate, held_out, surfaces
from jaxrec.attacks import apgd, fgsm, pgd
from jaxrec.certificates import dot_product, smoothing
from jaxrec.datasets import leave_one_out
from jaxrec.models import mf
from jaxrec.types import Model, Params, Split, Surface

pytestmark = pytest.mark.slow

DIMENSION = 16
EPSILONS = (0.01, 0.05, 0.2)  # in mean row norms
# Of the users whose held-out item comes first and is not certain to stay there, what share the attacks move.
LEAST_MOVED = {("user", "item"): 0.4, ("item",): 0.05, ("user",): 0.9}
NUM_DRAWS = 250
KEY = jax.random.key(0)
BPR = adversaries.sampled_bpr()
ATTACKS = {
    "FGSM": (lambda epsilon: fgsm.attack(epsilon=epsilon), BPR),
    "PGD": (lambda epsilon: pgd.attack(epsilon=epsilon, num_steps=5), BPR),
    "APGD": (lambda epsilon: apgd.attack(epsilon=epsilon, num_steps=5), BPR),
    "FGSM on the hardest margin": (lambda epsilon: fgsm.attack(epsilon=epsilon), adversaries.hardest_margin()),
}


class Case(NamedTuple):
    """A model of MovieLens-1M, and how it is ranked."""

    model: Model
    params: Params
    factors: dot_product.Factors
    split: Split
    plan: evaluate.RankPlan


@pytest.fixture(scope="module")
def case(data_dir):
    split = leave_one_out.load(data_dir / "ml-1m-leave-one-out", "ml-1m")
    num_users, num_items = split.train.num_users, split.train.num_items
    places = (split.train.users, split.train.items)
    seen = scipy.sparse.csr_array((np.ones(len(split.train), np.float32), places), shape=(num_users, num_items))
    left, values, right = scipy.sparse.linalg.svds(seen, k=DIMENSION, v0=np.ones(num_items, np.float32))
    assert left is not None
    assert right is not None
    # Both tables with the same singular values: the canonical gauge already.
    tables = {"user": jnp.asarray(left * np.sqrt(values)), "item": jnp.asarray(right.T * np.sqrt(values))}
    return Case(
        mf.model(num_users=num_users, num_items=num_items, dimension=DIMENSION),
        {"tables": tables, "weights": {}, "given": {}},
        dot_product.Factors(**tables),
        split,
        evaluate.prepare([split.train, split.valid], split.test),
    )


@pytest.fixture(scope="module")
def adversary(case):
    """(attack, what it knows, epsilons): of each user a training pair, or the held-out item and its best rival."""
    _, first = np.unique(case.split.train.users, return_index=True)
    of_training = adversaries.prepare(case.split.train.take(first), KEY, chunk_size=512)
    test = case.split.test
    firsts = np.asarray(lists(case.model, case.params, evaluate.prepare_lists(case.split[:2]), 2))
    best, second = firsts[test.users].T
    batch = {"users": test.users, "pos": test.items, "neg": np.where(best == test.items, second, best)}
    of_test = of_training._replace(batch=jax.tree.map(jnp.asarray, {**of_training.batch, **batch}))
    sampled = [(attack, known, EPSILONS) for known in (of_training, of_test) for attack in ("FGSM", "PGD", "APGD")]
    return [*sampled, ("FGSM on the hardest margin", of_training, EPSILONS[1:2])]  # it takes a second


def within(radii):
    """The surface on which each table's radius is the unit; one whose radius is 0 is not moved."""
    units = {"user": radii.user, "item": radii.item}
    get = lambda params: {name: params["tables"][name] / jnp.where(unit > 0, unit, 1) for name, unit in units.items()}

    def put(params, x):
        tables = {name: jnp.where(unit > 0, x[name] * unit, params["tables"][name]) for name, unit in units.items()}
        return {**params, "tables": tables}

    return Surface(get, put)


# Six thousand pairs a gradient, and a compilation each: XLA's optimisations would take longer than they save.
HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# Twenty million scores a ranking: without any it would take four times as long.
LESS_HASTY = HASTY | {"xla_backend_optimization_level": 1}
ranks = jax.jit(evaluate.ranks, static_argnums=0, compiler_options=LESS_HASTY)
lists = jax.jit(evaluate.lists, static_argnums=(0, 3), compiler_options=LESS_HASTY)
certified = jax.jit(dot_product.ranks, static_argnames="fall", compiler_options=LESS_HASTY)
count_hits = jax.jit(smoothing._count_hits, static_argnums=(0, 1), compiler_options=LESS_HASTY)


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=HASTY)
def attacked(attack, model, params, known, budget, epsilon):
    """The perturbed parameters."""
    make, loss = ATTACKS[attack]
    surface = within(budget)
    x = surface.get(params)
    delta, _ = make(epsilon)(KEY, loss(model, params, surface, known), x)
    return surface.put(params, jax.tree.map(jnp.add, x, delta))


@pytest.mark.parametrize("tables", [("user", "item"), ("item",), ("user",)], ids=" and ".join)
def test_no_attack_beats_the_dot_product_certificate(case, adversary, tables):
    """And it leaves an adversary who knows the held-out items little room: whom it does not certify is often moved."""
    unit = dot_product.relative(case.factors)
    user, item = (jnp.where(name in tables, getattr(unit, name), 0) for name in ("user", "item"))
    budget = dot_product.Radii(user, item)
    fall = dot_product.pairwise if len(tables) == 2 else dot_product.sufficient
    bounds = np.asarray(certified(case.factors, case.plan, budget, jnp.asarray(EPSILONS), fall=fall))
    ranks_of = lambda params: np.asarray(ranks(case.model, params, case.plan))
    first = ranks_of(case.params) == 1
    for epsilon, bound in zip(EPSILONS, bounds, strict=True):
        lost = np.zeros(len(first), bool)
        for attack, known in ((attack, known) for attack, known, at in adversary if epsilon in at):
            found = ranks_of(attacked(attack, case.model, case.params, known, budget, epsilon))
            assert (found <= bound).all(), f"{attack} at {epsilon}"
            lost |= first & (found > 1)
        assert lost.sum() >= LEAST_MOVED[tables] * (first & (bound > 1)).sum() > 0


def test_the_held_out_oracle_attains_the_certificate_of_item_rows(case):
    """A candidate within float32's rounding is uncertain, yet not reached; a thousandth more epsilon reaches it."""
    epsilons = jnp.asarray(EPSILONS, jnp.float32)
    budget = dot_product.relative(case.factors)._replace(user=0.0)
    bounds = np.asarray(certified(case.factors, case.plan, budget, epsilons))
    own, beyond = (
        held_out.ranks(case.factors, case.plan, budget.item * grown) for grown in (epsilons, 1.001 * epsilons)
    )
    assert (own <= bounds).all()
    assert (bounds <= beyond).all()
    assert (own == bounds).mean() > 0.98
    assert (bounds - own).max() <= 3  # places of 3,706


def test_no_attack_within_the_radius_turns_the_smoothed_recommender(case, adversary, monkeypatch):
    """Of 120 users with their item among the first ten; each meets its own adversary, who knows the item.

    The share of fresh draws with the item in the list stays above 1/2, and at twice the radius it does not.
    """
    monkeypatch.setattr(smoothing, "_count_hits", count_hits)
    first_ten = np.asarray(ranks(case.model, case.params, case.plan)) <= 10
    test = case.split.test
    users = np.asarray(case.plan.users)[first_ten][:120]
    plan = evaluate.prepare(case.split[:2], test.take(np.flatnonzero(np.isin(test.users, users))))
    surface, sigma = surfaces.tables("user"), 0.2 * float(dot_product.relative(case.factors).user)

    def certify(params, key):
        return smoothing.certify(case.model, params, plan, surface=surface, sigma=sigma, key=key, num_samples=NUM_DRAWS)

    found = certify(case.params, KEY)
    certain = found.radii > 0
    assert certain.sum() > 20
    radii = np.zeros((len(case.factors.user), 1), np.float32)
    radii[found.users, 0] = found.radii
    budget, (attack, known, _) = dot_product.Radii(jnp.asarray(radii), jnp.float32(0)), adversary[3]
    for share_of_radius, is_kept in ((0.999, True), (2.0, False)):
        params = attacked(attack, case.model, case.params, known, budget, share_of_radius)
        shares = certify(params, jax.random.key(1)).num_hits[certain] / NUM_DRAWS
        assert (shares > 0.5).all() == is_kept
