"""Ranks and lists against a slow loop, on scores that are small integers, so that ties abound and sums are exact."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import evaluate, metrics
from jaxrec.types import InputError, Interactions, Model

NUM_USERS, NUM_ITEMS, DIM = 9, 8, 3


def unused(*arguments):
    raise NotImplementedError


def model_of(score_all):
    return Model(init=unused, score=unused, score_all=score_all)


DOT = model_of(lambda params, users: params["tables"]["user"][users] @ params["tables"]["item"].T)
TABLE = model_of(lambda params, users: params["tables"]["scores"][users])


def interactions(pairs, num_users=NUM_USERS, num_items=NUM_ITEMS):
    users, items = np.array(list(pairs), np.int32).reshape(-1, 2).T
    return Interactions(users.copy(), items.copy(), num_users, num_items)


def random_split(seed):
    """Seen and held-out pairs; user 2 has nothing held out, user 5 has seen all but the target, user 7 nothing."""
    rng = np.random.default_rng(seed)
    targets = {user: int(rng.integers(NUM_ITEMS)) for user in range(NUM_USERS) if user != 2}
    seen = {
        (user, item)
        for user in range(NUM_USERS)
        for item in range(NUM_ITEMS)
        if (rng.random() < 0.3 or user == 5) and user != 7 and item != targets.get(user)
    }
    return interactions(sorted(seen)), interactions(targets.items())


def random_params(seed):
    rng = np.random.default_rng(seed)
    draw = lambda rows: jnp.asarray(rng.integers(-1, 2, (rows, DIM)), jnp.float32)
    return {"tables": {"user": draw(NUM_USERS), "item": draw(NUM_ITEMS)}}


def scores_of(params):
    return np.asarray(params["tables"]["user"]) @ np.asarray(params["tables"]["item"]).T


def slow_rank(scores, target, others, ties):
    above = sum(scores[item] > scores[target] for item in others)
    equal = sum(scores[item] == scores[target] for item in others)
    return 1 + above + (equal if ties == "against" else equal / 2)


def slow_ranks(scores, seen, held_out, ties):
    known = set(zip(seen.users.tolist(), seen.items.tolist(), strict=True))
    ranks = []
    for user, target in sorted(zip(held_out.users.tolist(), held_out.items.tolist(), strict=True)):
        others = [item for item in range(NUM_ITEMS) if item != target and (user, item) not in known]
        ranks.append(slow_rank(scores[user], target, others, ties))
    return ranks


@pytest.mark.parametrize("ties", ["against", "averaged"])
@pytest.mark.parametrize("chunk_size", [3, 128])
def test_ranks_equal_a_loop(ties, chunk_size):
    seen, held_out = random_split(0)
    plan = evaluate.prepare([seen], held_out, ties=ties, chunk_size=chunk_size)
    for seed in range(3):
        params = random_params(seed)
        found = evaluate.evaluate(DOT, params, plan)
        assert found.ranks.tolist() == slow_ranks(scores_of(params), seen, held_out, ties)
        assert found.users.tolist() == sorted(held_out.users.tolist())
        assert found.num_left_out == 1
        assert found.ranks[found.users == 5] == 1
        known = np.bincount(seen.users, minlength=NUM_USERS)[found.users]
        assert found.num_candidates.tolist() == (NUM_ITEMS - known).tolist()


def test_no_item_that_is_known_is_ranked_but_the_target_always_is():
    scores = jnp.asarray([[4.0, 3.0, 2.0, 1.0]])
    params = {"tables": {"scores": scores}}
    train = interactions([(0, 0), (0, 3), (0, 0)], 1, 4)  # a repeated pair, and the target itself
    valid, test = interactions([(0, 1)], 1, 4), interactions([(0, 3)], 1, 4)
    assert evaluate.evaluate(TABLE, params, evaluate.prepare([train], test)).ranks.tolist() == [3]
    both = evaluate.evaluate(TABLE, params, evaluate.prepare([train, valid], test))
    assert (both.ranks.tolist(), both.num_candidates.tolist()) == ([2], [2])


@pytest.mark.parametrize(("ties", "rank"), [("against", 8), ("averaged", 4.5)])
def test_a_constant_model_is_no_good(ties, rank):
    plan = evaluate.prepare([interactions([])], interactions([(user, user % 8) for user in range(9)]), ties=ties)
    params = {"tables": {"user": jnp.full((9, 3), 0.1), "item": jnp.full((8, 3), 0.7)}}
    assert (evaluate.evaluate(DOT, params, plan).ranks == rank).all()


@pytest.mark.parametrize("ties", ["against", "averaged"])
def test_a_score_that_is_not_finite_never_ranks_first(ties):
    nan, inf = np.nan, np.inf
    rows = [[nan, 1, 2], [inf, 1, 2], [-inf, 1, 2], [1, nan, 0], [1, -inf, nan], [1, inf, 2]]
    params = {"tables": {"scores": jnp.asarray(rows)}}
    plan = evaluate.prepare([interactions([], 6, 3)], interactions([(user, 0) for user in range(6)], 6, 3), ties=ties)
    assert evaluate.evaluate(TABLE, params, plan).ranks.tolist() == [3, 3, 3, 1, 1, 2]
    diverged = {"tables": {"scores": jnp.full((6, 3), nan)}}
    assert (evaluate.evaluate(TABLE, diverged, plan).ranks == (3 if ties == "against" else 2)).all()


@pytest.mark.parametrize("ties", ["against", "averaged"])
def test_listed_negatives_equal_a_loop(ties):
    _, held_out = random_split(3)
    negatives = np.random.default_rng(4).integers(-1, NUM_ITEMS, (NUM_USERS, 5)).astype(np.int32)
    target = dict(zip(held_out.users.tolist(), held_out.items.tolist(), strict=True))
    negatives[0, :2] = target[0]  # the target among its own negatives does not compete with itself
    negatives[1] = -1
    plan = evaluate.prepare([interactions([])], held_out, negatives=negatives, ties=ties, chunk_size=3)
    params = random_params(5)
    found = evaluate.evaluate(DOT, params, plan)
    for user, rank, num_candidates in zip(found.users, found.ranks, found.num_candidates, strict=True):
        others = [item for item in negatives[user] if item not in (-1, target[user])]
        assert rank == slow_rank(scores_of(params)[user], target[user], others, ties)
        assert num_candidates == 1 + len(others)
    assert found.ranks[found.users == 1] == 1


def test_one_trace_serves_all_parameters():
    scored = chex.assert_max_traces(lambda params, users: DOT.score_all(params, users), n=1)
    model = model_of(scored)
    seen, held_out = random_split(0)
    plan = evaluate.prepare([seen], held_out, chunk_size=3)
    evaluate.evaluate(model, random_params(0), plan)
    evaluate.evaluate(model, random_params(1), evaluate.prepare([seen], held_out, chunk_size=3))


def test_ranks_may_be_vmapped_over_parameters():
    seen, held_out = random_split(0)
    plan = evaluate.prepare([seen], held_out, chunk_size=3)
    trees = [random_params(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    together = jax.vmap(lambda params: evaluate.ranks(DOT, params, plan))(stacked)
    assert together.tolist() == [evaluate.ranks(DOT, params, plan).tolist() for params in trees]


def test_places_without_a_user_and_pairs_without_an_item_are_few():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(500), rng.geometric(0.05, 500).clip(max=90))
    pairs = {(int(user), int(rng.integers(100))) for user in users}
    plan = evaluate.prepare_lists([interactions(sorted(pairs), 500, 100)], chunk_size=64)
    assert plan.chunks.users.shape == (8, 63)
    assert plan.chunks.items.size < 1.1 * len(pairs)


@pytest.mark.parametrize("chunk_size", [4, 128])
def test_lists_equal_a_sort(chunk_size):
    seen, _ = random_split(1)
    params = random_params(1)
    found = np.asarray(evaluate.lists(DOT, params, evaluate.prepare_lists([seen], chunk_size=chunk_size), 5))
    scores = scores_of(params)
    for user in range(NUM_USERS):
        known = set(seen.items[seen.users == user].tolist())
        order = [item for item in np.argsort(-scores[user], kind="stable").tolist() if item not in known][:5]
        assert found[user].tolist() == order + [-1] * (5 - len(order))


def test_lists_of_some_users_hold_no_item_that_has_no_finite_score():
    params = {"tables": {"scores": jnp.asarray([[9.0, 8, 7], [np.nan, 1, np.inf], [3, -np.inf, 5]])}}
    plan = evaluate.prepare_lists([interactions([(2, 2)], 3, 3)], users=np.array([1, 2], np.int32))
    assert np.asarray(evaluate.lists(TABLE, params, plan, 3)).tolist() == [[1, -1, -1], [0, -1, -1]]


def test_lists_and_ranks_agree_where_nothing_ties():
    rng = np.random.default_rng(0)
    params = {"tables": {"scores": jnp.asarray(rng.normal(size=(NUM_USERS, NUM_ITEMS)), jnp.float32)}}
    seen, held_out = random_split(2)
    ranked = evaluate.evaluate(TABLE, params, evaluate.prepare([seen], held_out))
    found = np.asarray(evaluate.lists(TABLE, params, evaluate.prepare_lists([seen], users=ranked.users), NUM_ITEMS))
    in_lists = metrics.ranks_in_lists(found, evaluate.relevant_items(held_out, ranked.users))
    assert in_lists[:, 0].tolist() == ranked.ranks.tolist()


def test_relevant_items_are_distinct_and_padded():
    test = interactions([(4, 1), (0, 7), (4, 0), (4, 1), (6, 2)])
    found = evaluate.relevant_items(test, np.array([0, 4], np.int32))
    assert found.tolist() == [[7, -1], [0, 1]]


def test_wrong_splits_are_refused():
    seen, held_out = random_split(0)
    wrong = {
        "at least one held-out": ([seen], interactions([])),
        "at most one held-out item a user, got 2 of user 3": ([seen], interactions([(1, 1), (3, 0), (3, 1)])),
        "same .num_users, num_items.": ([interactions([], 9, 7)], held_out),
    }
    for message, arguments in wrong.items():
        with pytest.raises(ValueError, match=message):
            evaluate.prepare(*arguments)
    for message, options in {
        "random": {"ties": "random"},
        "chunk_size=0": {"chunk_size": 0},
        "negatives for 9 users, got 2": {"negatives": np.zeros((2, 3), np.int32)},
        r"negatives in \[0, 8\), got 8": {"negatives": np.full((9, 1), 8, np.int32)},
        r"negatives in \[0, 8\), got -2": {"negatives": np.full((9, 1), -2, np.int32)},
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            evaluate.prepare([seen], held_out, **options)
    for users in ([1, 1], [2, 1], []):
        with pytest.raises(ValueError, match="users that ascend"):
            evaluate.prepare_lists([seen], users=np.array(users, np.int32))


def test_a_model_of_another_catalogue_and_a_cutoff_beyond_it_are_refused():
    seen, held_out = random_split(0)
    small = {"tables": {"user": jnp.zeros((9, 3)), "item": jnp.zeros((7, 3))}}
    with pytest.raises(ValueError, match=r"shape \(8, 8\), got \(8, 7\)"):
        evaluate.ranks(DOT, small, evaluate.prepare([seen], held_out))
    for k in (0, 9):
        with pytest.raises(InputError, match=f"k={k} with num_items=8"):
            evaluate.lists(DOT, random_params(0), evaluate.prepare_lists([seen]), k)
