"""The weighted loss against its terms written out, what it leaves alone, and which points are non-dominated."""

import functools

import jax
import numpy as np
import pytest
import toys

from jaxrec import exposure, loop, objectives, tradeoff
from jaxrec.types import Interactions

INFORMATION = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 1.5])
VECTORS = np.array([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0], [0, 3]], np.float32)
KEY = jax.random.key(3)


@functools.cache
def compiled(**settings):
    clean = objectives.pairwise(model=toys.MODEL)
    made = tradeoff.objective(clean=clean, model=toys.MODEL, information=INFORMATION, vectors=VECTORS, **settings)
    of_params = lambda params, batch: made(params, batch, KEY, lambda tree: tree)
    return jax.jit(jax.value_and_grad(of_params, has_aux=True))


def scaled(factor):
    tables = toys.params()["tables"]
    return {**toys.params(), "tables": {**tables, "user": tables["user"] * factor}}


def terms(num_candidates, temperature):
    """(novelty, diversity), summed over the examples that count."""
    tables = jax.tree.map(lambda table: np.asarray(table, float), toys.params()["tables"])
    candidates = np.asarray(jax.random.randint(jax.random.split(KEY)[1], (num_candidates,), 0, 6))
    unit = exposure.unit_rows(VECTORS)
    novelty = diversity = 0.0
    for user in np.asarray(toys.BATCH["users"])[np.asarray(toys.BATCH["where"])]:
        scores = tables["item"][candidates] @ tables["user"][user]
        chances = np.exp((scores - scores.mean()) / (temperature * scores.std()))
        chances /= chances.sum()
        novelty += sum(chances * INFORMATION[candidates] / 4)
        for p, a in zip(chances, candidates, strict=True):
            for q, b in zip(chances, candidates, strict=True):
                diversity += p * q * (0 if a == b else 1 - unit[a] @ unit[b])
    return novelty, diversity


@pytest.mark.parametrize(("num_candidates", "temperature"), [(9, 0.5), (4, 2.0)])
def test_it_is_the_clean_loss_less_the_weighted_expectations(num_candidates, temperature):
    settings = {"num_candidates": num_candidates, "temperature": temperature}
    weighted = compiled(novelty_weight=0.7, diversity_weight=2.0, **settings)
    (loss, metrics), _ = weighted(toys.params(), toys.BATCH)
    novelty, diversity = terms(num_candidates, temperature)
    assert float(metrics["novelty"]) == pytest.approx(novelty, rel=1e-5)
    assert float(metrics["diversity"]) == pytest.approx(diversity, rel=1e-4)
    assert float(loss) == pytest.approx(float(metrics["loss"]) - 0.7 * novelty - 2 * diversity, rel=1e-4)


def test_without_weights_the_gradient_is_the_clean_one():
    clean = objectives.pairwise(model=toys.MODEL)
    expected = jax.jit(jax.grad(lambda params: clean(params, toys.BATCH, KEY, lambda tree: tree)[0]))(toys.params())
    found = compiled()(toys.params(), toys.BATCH)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), found["tables"], expected["tables"])


def test_scores_that_grow_earn_nothing():
    weighted = compiled(novelty_weight=1.0)
    small, large = (weighted(scaled(factor), toys.BATCH)[0][1] for factor in (1.0, 50.0))
    for name in ("novelty", "diversity"):
        assert float(small[name]) == pytest.approx(float(large[name]), rel=1e-4)


def test_training_on_with_a_weight_makes_lists_newer():
    """And it goes on from where it is told to: without an epoch nothing moves."""
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((4, 6)) < 0.5).astype(np.int32)
    train = Interactions(*pairs.T.copy(), num_users=4, num_items=6)
    model = toys.MODEL
    still = loop.fit_in_memory(model, objectives.pairwise(model=model), train, num_epochs=0, start=toys.params())
    np.testing.assert_array_equal(still["tables"]["item"], toys.params()["tables"]["item"])
    made = tradeoff.objective(
        clean=objectives.pairwise(model=model),
        model=model,
        information=INFORMATION,
        vectors=VECTORS,
        novelty_weight=20.0,
        num_candidates=16,
    )
    after = loop.fit_in_memory(model, made, train, num_epochs=30, batch_size=4, start=toys.params())
    listed = lambda params: np.argsort(-np.asarray(params["tables"]["user"] @ params["tables"]["item"].T))[:, :2]
    before, newer = (exposure.novelty(listed(params), INFORMATION).mean() for params in (toys.params(), after))
    assert newer > before + 0.5


def test_non_dominated_points():
    values = np.array([[3, 1], [2, 2], [2, 1], [1, 3], [1, 3], [1, 2], [0, 4]], float)
    assert tradeoff.non_dominated(values).tolist() == [True, True, False, True, True, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_non_dominated_points_of_three_measures_equal_a_loop(seed):
    values = np.random.default_rng(seed).integers(0, 4, (15, 3)).astype(float)
    dominated = [any((b >= a).all() and (b > a).any() for b in values) for a in values]
    assert tradeoff.non_dominated(values).tolist() == np.logical_not(dominated).tolist()


def test_the_furthest_point_keeps_enough():
    assert tradeoff.furthest_within([3, 5, 9, 4], [1, 0.95, 0.9, 0.99], at_least=0.95) == 1
    assert tradeoff.furthest_within([3, 5], [0.5, 0.2], at_least=0.95) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"novelty_weight": -1.0}, "novelty_weight"),
        ({"diversity_weight": float("nan")}, "diversity_weight"),
        ({"num_candidates": 0}, "num_candidates"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        compiled(**setting)
