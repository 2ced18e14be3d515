"""What is special to normalisation: cosines, whatever the norms, and training that goes through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from planted import two_groups

from jaxrec import evaluate, loop, objectives
from jaxrec.defences import normalised
from jaxrec.models import biased_mf, lightgcn, mf

MODEL = normalised.wrap(toys.MODEL, temperature=0.2)


def test_scores_are_cosines_over_the_temperature():
    user, item = (np.asarray(toys.params()["tables"][name], float) for name in ("user", "item"))
    lengths = np.outer(np.linalg.norm(user, axis=1), np.linalg.norm(item, axis=1))
    scores = jax.jit(MODEL.score_all)(toys.params(), jnp.arange(4))
    np.testing.assert_allclose(scores, user @ item.T / lengths / 0.2, rtol=1e-5)


def test_norms_change_nothing_and_the_canonical_gauge_has_none():
    lengths = {"user": jnp.array([[0.1], [3.0], [9.0], [1.0]]), "item": jnp.arange(1.0, 7.0)[:, None]}
    longer = toys.params() | {"tables": jax.tree.map(jnp.multiply, toys.params()["tables"], lengths)}
    scores = [MODEL.score_all(params, jnp.arange(4)) for params in (toys.params(), longer)]
    np.testing.assert_allclose(*scores, rtol=1e-5)
    for table in MODEL.canonical(longer)["tables"].values():
        np.testing.assert_allclose(jnp.linalg.norm(table, axis=1), 1, rtol=1e-5)


def test_a_trained_model_finds_the_groups():
    split = two_groups()
    model = normalised.wrap(mf.model(num_users=20, num_items=20, dimension=4))
    params = loop.fit_in_memory(
        model, objectives.pairwise(model=model), split.train, num_epochs=30, batch_size=40, seed=0
    )
    ranks = evaluate.evaluate(model, params, evaluate.prepare([split.train, split.valid], split.test)).ranks
    assert np.mean(ranks == 1) >= 0.8, "by chance one in twelve"


def test_models_of_more_than_two_rows_and_no_temperature_are_refused():
    graph = lightgcn.model(num_users=4, num_items=6, dimension=3)
    with pytest.raises(ValueError, match="with score_rows"):
        normalised.wrap(graph)
    assert normalised.wrap(biased_mf.model(num_users=4, num_items=6)).score_rows is not None
    with pytest.raises(ValueError, match="temperature=0"):
        normalised.wrap(toys.MODEL, temperature=0.0)
