"""Rerankers against a greedy search by brute force in NumPy, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import rerank
from jaxrec.types import InputError

RERANKERS = {
    "mmr": lambda k: rerank.mmr(k=k, trade_off=0.5),
    "dpp": lambda k: rerank.dpp(k=k, relevance_weight=1.0, ridge=0.1),
}


def drawn(seed, num=12, dimension=8):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num, dimension)).astype(np.float32)
    vectors[4] = 0
    return rng.random(num).astype(np.float32), vectors, rng.random(num) < 0.8


def chosen_by(rerank, relevance, vectors, where=None):
    return jax.jit(rerank)(relevance, vectors, where).tolist()


def cosines(vectors):
    lengths = np.linalg.norm(vectors.astype(float), axis=1)
    unit = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    made = unit @ unit.T
    np.fill_diagonal(made, 1)
    return made


def greedy(gain, where, k):
    """Places chosen one after another by `gain(chosen, candidate)`."""
    chosen = []
    for _ in range(min(k, where.sum())):
        rest = [place for place in np.flatnonzero(where) if place not in chosen]
        chosen.append(max(rest, key=lambda place: gain(chosen, place)))
    return chosen + [-1] * (k - len(chosen))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("trade_off", [0.0, 0.4, 0.8, 1.0])
def test_mmr_equals_its_definition(seed, trade_off):
    relevance, vectors, where = drawn(seed)
    like = cosines(vectors)

    def gain(chosen, place):
        return trade_off * relevance[place] - (1 - trade_off) * max((like[place, c] for c in chosen), default=0)

    assert chosen_by(rerank.mmr(k=6, trade_off=trade_off), relevance, vectors, where) == greedy(gain, where, 6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("weight", "ridge"), [(0.0, 0.0), (0.5, 0.0), (2.0, 0.1), (100.0, 0.01)])
def test_dpp_takes_the_largest_gain_of_the_log_determinant(seed, weight, ridge):
    relevance, vectors, where = drawn(seed)
    kernel = cosines(vectors) + ridge * np.eye(12)

    def gain(chosen, place):  # with the quality taken out of the determinant: e^200 has no place in it
        together = np.array([*chosen, place])
        return np.linalg.slogdet(kernel[np.ix_(together, together)])[1] + 2 * weight * float(relevance[together].sum())

    made = rerank.dpp(k=6, relevance_weight=weight, ridge=ridge)
    assert chosen_by(made, relevance, vectors, where) == greedy(gain, where, 6)


def test_a_whole_kernel_with_quality_is_the_papers():
    """exp(alpha r_i) S_ij exp(alpha r_j), for a weight at which it can be written down."""
    relevance, vectors, where = drawn(5)
    quality = np.exp(0.7 * relevance.astype(float))
    kernel = quality[:, None] * cosines(vectors) * quality

    def gain(chosen, place):
        together = np.array([*chosen, place])
        return np.linalg.slogdet(kernel[np.ix_(together, together)])[1]

    assert chosen_by(rerank.dpp(k=5, relevance_weight=0.7), relevance, vectors, where) == greedy(gain, where, 5)


@pytest.mark.parametrize("name", RERANKERS)
def test_more_places_than_candidates_stay_empty(name):
    relevance, vectors, _ = drawn(0)
    where = np.arange(12) < 3
    found = chosen_by(RERANKERS[name](7), relevance, vectors, where)
    assert sorted(found[:3]) == [0, 1, 2]
    assert found[3:] == [-1] * 4
    beyond = chosen_by(RERANKERS[name](15), relevance, vectors)
    assert sorted(beyond[:12]) == list(range(12))
    assert beyond[12:] == [-1] * 3
    assert chosen_by(RERANKERS[name](2), relevance, vectors, np.zeros(12, bool)) == [-1, -1]


def test_copies_of_one_vector():
    """MMR takes a copy last; a DPP never takes one without a ridge, and with one when relevance pays for it."""
    vectors = np.float32([[1, 2, 2], [2, 4, 4], [1, 2, 2], [2, -2, 1]])
    relevance = np.float32([1.0, 0.9, 0.8, 0.1])
    assert chosen_by(rerank.mmr(k=4, trade_off=0.4), relevance, vectors) == [0, 3, 1, 2]
    assert chosen_by(rerank.dpp(k=4, relevance_weight=1.0), relevance, vectors) == [0, 3, -1, -1]
    assert chosen_by(rerank.dpp(k=4, relevance_weight=1.0, ridge=0.01), relevance, vectors) == [0, 3, 1, 2]
    assert chosen_by(rerank.dpp(k=4, relevance_weight=9.0, ridge=0.01), relevance, vectors) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", RERANKERS)
def test_what_does_not_count_may_be_anything(name):
    relevance, vectors, where = drawn(1)
    wild, far = np.where(where, relevance, np.nan), np.where(where[:, None], vectors, 1e9).astype(np.float32)
    make = RERANKERS[name](5)
    assert chosen_by(make, wild, far, where) == chosen_by(make, relevance, vectors, where)


@pytest.mark.parametrize("name", RERANKERS)
def test_lists_of_users_are_those_of_one_after_another(name):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(20, 4)).astype(np.float32)
    candidates = np.stack([rng.permutation(20)[:9] for _ in range(5)]).astype(np.int32)
    candidates[1, 6:] = -1
    candidates[2] = -1
    relevance = rng.random((5, 9)).astype(np.float32)
    made = RERANKERS[name](12)
    found = jax.jit(lambda *args: rerank.lists(made, *args))(candidates, relevance, vectors)
    for items, each, row in zip(candidates, relevance, np.asarray(found), strict=True):
        places = chosen_by(made, each, vectors[items], items >= 0)
        assert row.tolist() == [items[place] if place >= 0 else -1 for place in places]


def test_hyperparameters_may_be_traced():
    relevance, vectors, where = drawn(2)
    for make in (lambda x: rerank.mmr(k=4, trade_off=x), lambda x: rerank.dpp(k=4, relevance_weight=x, ridge=x)):
        traced = jax.jit(lambda x, *args, make=make: make(x)(*args))
        for value in (0.2, 0.9):
            assert traced(value, *map(jnp.asarray, (relevance, vectors, where))).tolist() == chosen_by(
                make(value), relevance, vectors, where
            )


def test_unit_range():
    scores = jnp.array([[2.0, 4.0, 3.0, 9.0], [5.0, 5.0, 5.0, 1.0], [7.0, 1.0, 1.0, 1.0]])
    where = jnp.array([[True, True, True, False], [True, True, False, False], [False] * 4])
    np.testing.assert_allclose(rerank.unit_range(scores, where), [[0, 1, 0.5, 0], [0] * 4, [0] * 4], rtol=1e-6)


@pytest.mark.parametrize("trade_off", [-0.1, 1.1, float("nan")])
def test_wrong_hyperparameters_are_refused(trade_off):
    with pytest.raises(ValueError, match="trade_off"):
        rerank.mmr(k=3, trade_off=trade_off)
    with pytest.raises(ValueError, match="relevance_weight"):
        rerank.dpp(k=3, relevance_weight=min(trade_off, -1.0))
    with pytest.raises(ValueError, match="ridge"):
        rerank.dpp(k=3, relevance_weight=1.0, ridge=float("nan"))
    with pytest.raises(InputError, match="ridge=1e-06"):
        rerank.dpp(k=3, relevance_weight=1.0, ridge=1e-6)
    for make in RERANKERS.values():
        with pytest.raises(ValueError, match="k=0"):
            make(0)
