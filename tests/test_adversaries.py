"""Adversaries against NumPy in float64, on tables of seven users and six items; chunks, gradients, and scales."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import adversaries, evaluate, surfaces, targeted
from jaxrec.models import mf
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, DIM = 7, 6, 3
MODEL = mf.model(num_users=NUM_USERS, num_items=NUM_ITEMS, dimension=DIM)
SURFACE = surfaces.tables("user", "item")
KEY = jax.random.key(5)
# User 3 has no item, user 5 has all of them, user 6 all but one.
SEEN = {0: [1, 2], 1: [0], 2: [5, 3, 1], 3: [], 4: [4], 5: [0, 1, 2, 3, 4, 5], 6: [0, 1, 2, 3, 5]}
PAIRS = [(user, item) for user, items in SEEN.items() for item in items]
TARGETS = np.array([1, 4])
USERS, ITEMS = np.array([0, 3, 6, 6, 2]), np.array([5, 0, 4, 2, 2])
SOME = np.array([True, False, True, True, False])


def train():
    users, items = np.array(PAIRS, np.int32).T
    return Interactions(np.ascontiguousarray(users), np.ascontiguousarray(items), NUM_USERS, NUM_ITEMS)


@functools.cache
def known(chunk_size=3):
    return adversaries.prepare(train(), KEY, chunk_size=chunk_size)


def params(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    tables = {"user": rng.normal(size=(NUM_USERS, DIM)), "item": rng.normal(size=(NUM_ITEMS, DIM))}
    return {"tables": {k: jnp.asarray(scale * v, jnp.float32) for k, v in tables.items()}, "weights": {}, "given": {}}


def scores_of(tables):
    return np.asarray(tables["user"], float) @ np.asarray(tables["item"], float).T


def clean_spread():
    return np.mean([row.std() for row in scores_of(params()["tables"])])


def log_softmax(row):
    return row - np.log(np.exp(row).sum())


def unseen_of(user):
    """The user's unseen items."""
    return [item for item in range(NUM_ITEMS) if item not in SEEN[user]]


def sampled_bpr(scores):
    clean, batch = scores_of(params()["tables"]), known().batch
    users, pos, neg = (np.asarray(batch[name]) for name in ("users", "pos", "neg"))
    spread = np.std(clean[users, pos] - clean[users, neg])
    return np.mean(
        [np.log1p(np.exp(-(scores[u, p] - scores[u, n]) / spread)) for u, p, n in zip(users, pos, neg, strict=True)]
    )


def margins(scores, spread_of):
    return np.mean(
        [(max(scores[u, unseen_of(u)]) - scores[u, i]) / spread_of(scores[u]) for u, i in PAIRS if unseen_of(u)]
    )


def softmax(scores):
    return -np.mean([log_softmax(scores[u] / (2 * clean_spread()))[i] for u, i in PAIRS])


def smooth_ndcg(scores):
    losses = []
    for user, items in SEEN.items():
        row, dcg = scores[user] / (0.1 * clean_spread()), 0.0
        for i in items:
            rank = 1 + sum(1 / (1 + np.exp(row[i] - row[j])) for j in range(NUM_ITEMS) if j != i)
            dcg += 1 / np.log2(1 + rank)
        if items:
            losses.append(1 - dcg / sum(1 / np.log2(1 + place) for place in range(1, len(items) + 1)))
    return np.mean(losses)


def push(scores):
    found = []
    for user in SEEN:
        if not (unseen := unseen_of(user)):
            continue
        shares = dict(zip(unseen, log_softmax(scores[user, unseen] / clean_spread()), strict=True))
        found += [shares[target] for target in TARGETS if target in shares]
    return np.mean(found)


def pull(scores):
    found = []
    for user in SEEN:
        if not (unseen := unseen_of(user)):
            continue
        shares = np.exp(log_softmax(scores[user, unseen] / clean_spread()))
        on_targets = np.isin(unseen, TARGETS)
        if on_targets.any() and not on_targets.all():
            found.append(np.log(1 - shares[on_targets].sum()))
    return np.mean(found)


def rating(scores):
    return -np.mean((scores[USERS, ITEMS] - 1) ** 2)


def rating_of_some(scores):
    return -np.mean((scores[USERS, ITEMS] - 1)[SOME] ** 2)


CASES = {
    "sampled_bpr": (adversaries.sampled_bpr(piece_size=5), sampled_bpr),
    "hardest_margin": (adversaries.hardest_margin(), lambda scores: margins(scores, lambda row: clean_spread())),
    "scale_free_margin": (adversaries.scale_free_margin(), lambda scores: margins(scores, np.std)),
    "softmax": (adversaries.softmax(temperature=2.0), softmax),
    "smooth_ndcg": (adversaries.smooth_ndcg(piece_size=4), smooth_ndcg),
    "push": (targeted.push(TARGETS), push),
    "pull": (targeted.pull(TARGETS), pull),
    "rating": (targeted.rating(USERS, ITEMS, piece_size=2), rating),
    "rating of some": (targeted.rating(USERS, ITEMS, where=jnp.asarray(SOME)), rating_of_some),
}
every_adversary = pytest.mark.parametrize("name", CASES)


@functools.cache
def compiled(name):
    """(params, known, x) -> (losses, gradient)."""

    @jax.jit
    def ask(params, known, x):
        oracle = CASES[name][0](MODEL, params, SURFACE, known)
        assert oracle.grad is not None
        return oracle.losses(KEY, x), oracle.grad(KEY, x)

    return ask


@every_adversary
def test_each_loss_is_that_of_numpy_at_other_tables_than_the_clean_ones(name):
    """Seven users in chunks of three: two places are left over, and count for nothing."""
    moved = params(seed=1)["tables"]
    value, _ = compiled(name)(params(), known(), moved)
    np.testing.assert_allclose(value, [CASES[name][1](scores_of(moved))], rtol=1e-5)


@every_adversary
def test_each_gradient_is_that_of_finite_differences_of_numpy(name):
    """In float64, along a random direction."""
    moved, direction = ({k: np.asarray(table, float) for k, table in params(seed)["tables"].items()} for seed in (1, 2))
    _, grad = compiled(name)(params(), known(), params(seed=1)["tables"])
    at = lambda step: CASES[name][1](scores_of({k: moved[k] + step * direction[k] for k in moved}))
    expected = (at(1e-5) - at(-1e-5)) / 2e-5
    found = sum(float(np.sum(np.asarray(grad[k], float) * direction[k])) for k in grad)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("rating")])
def test_no_loss_changes_when_all_scores_are_multiplied(name):
    """At nine hundred times the scale raw BPR has no gradient left; these losses and their directions stay."""
    (value, grad), (grown, grown_grad) = (
        compiled(name)(params(scale=scale), known(), params(1, scale)["tables"]) for scale in (1.0, 30.0)
    )
    np.testing.assert_allclose(grown, value, rtol=1e-4)
    for table in grad:
        assert np.abs(grad[table]).max() > 0
        np.testing.assert_allclose(30 * grown_grad[table], grad[table], rtol=1e-3, atol=1e-5)


@every_adversary
def test_a_model_that_scores_everything_alike_has_finite_losses_and_gradients(name):
    flat = jax.tree.map(jnp.zeros_like, params())
    value, grad = compiled(name)(flat, known(), flat["tables"])
    assert np.isfinite(value).all()
    for table in grad:
        np.testing.assert_array_equal(grad[table], 0)


@pytest.mark.parametrize("name", ["hardest_margin", "scale_free_margin", "softmax", "push", "pull", "smooth_ndcg"])
def test_no_matrix_of_users_by_items_is_made(name):
    """Nothing in the compiled program, gradient included, has as many numbers as one of all users and items."""
    num_users, num_items = 64, 32
    model = mf.model(num_users=num_users, num_items=num_items, dimension=1)
    users = np.arange(num_users, dtype=np.int32)
    few = adversaries.prepare(Interactions(users, users % 8, num_users, num_items), KEY, chunk_size=8)
    given = model.init(KEY)
    ask = lambda x: jax.grad(lambda x: CASES[name][0](model, given, SURFACE, few).losses(KEY, x)[0])(x)
    program = jax.jit(ask).lower(given["tables"]).as_text()
    shapes = [shape.split("x")[:-1] for shape in re.findall(r"tensor<([0-9x]+x)[a-z]", program)]
    sizes = [math.prod(map(int, shape)) for shape in shapes]
    assert 8 * num_items <= max(sizes) < num_users * num_items


def test_a_model_without_rows_has_the_same_sampled_loss():
    plain = dataclasses.replace(MODEL, score_rows=None, score_pairs=None)
    oracle = adversaries.sampled_bpr()(plain, params(), SURFACE, known())
    moved = params(seed=1)["tables"]
    np.testing.assert_allclose(oracle.losses(KEY, moved), [sampled_bpr(scores_of(moved))], rtol=1e-5)


def test_the_batch_holds_every_training_pair_with_an_unseen_item_of_users_who_have_one():
    users, pos, neg, where = (np.asarray(known().batch[name]).tolist() for name in ("users", "pos", "neg", "where"))
    assert list(zip(users, pos, strict=True)) == [(user, item) for user, item in PAIRS if user != 5]
    assert all(item in unseen_of(user) for user, item in zip(users, neg, strict=True))
    assert all(where)


def test_lists_alone_say_what_share_of_the_clean_lists_left():
    plan, k = evaluate.prepare_lists([train()], chunk_size=3), 2
    oracle = adversaries.lists_only(plan, k)(MODEL, params(), SURFACE, known())
    assert (oracle.grad, oracle.scores) == (None, None)
    moved = params(seed=1)["tables"]
    best = lambda scores, user: sorted(unseen_of(user), key=lambda item: -scores[user, item])[:k]
    clean, after = scores_of(params()["tables"]), scores_of(moved)
    stays = [
        len(set(best(clean, user)) & set(best(after, user))) / len(best(clean, user))
        for user in SEEN
        if unseen_of(user)
    ]
    assert 0 < np.mean(stays) < 1
    np.testing.assert_allclose(oracle.losses(KEY, moved), [1 - np.mean(stays)], rtol=1e-6)
    np.testing.assert_array_equal(oracle.losses(KEY, params()["tables"]), [0])


def ask_at(adversary):
    return adversary(MODEL, params(), SURFACE, known()).losses(KEY, params()["tables"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: adversaries.softmax(temperature=0.0), "temperature > 0"),
        (lambda: adversaries.smooth_ndcg(temperature=float("nan")), "temperature=nan"),
        (lambda: adversaries.smooth_ndcg(piece_size=0), "piece_size >= 1"),
        (lambda: targeted.push(np.array([], int)), "at least one target"),
        (lambda: targeted.pull(np.array([1, 1])), "each once"),
        (lambda: ask_at(targeted.push(np.array([NUM_ITEMS]))), r"targets in \[0, 6\)"),
        (lambda: targeted.rating(USERS, ITEMS[1:]), "as many users as items"),
        (lambda: targeted.rating(USERS, ITEMS, where=jnp.ones(1, bool)), "where of shape"),
        (lambda: targeted.rating(USERS, ITEMS, target=float("inf")), "finite target"),
        (lambda: ask_at(targeted.rating(USERS + NUM_USERS, ITEMS)), r"users in \[0, 7\)"),
        (lambda: ask_at(targeted.rating(USERS, ITEMS - 1)), r"items in \[0, 6\), got -1"),
        (lambda: adversaries.prepare(Interactions(*np.zeros((2, 1), np.int32), 1, 1), KEY), "an unseen item, got none"),
    ],
)  # fmt: skip
def test_what_makes_no_adversary_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
