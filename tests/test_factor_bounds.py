"""Radii of factors: what random perturbations of the tables never leave, and the certificate that stands on them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import evaluate, factor_bounds, types
from jaxrec.certificates import dot_product
from jaxrec.models import lightgcn, mf

USERS = np.array([0, 0, 0, 1, 2, 2], np.int32)
ITEMS = np.array([0, 1, 2, 2, 3, 0], np.int32)
KNOWN = types.Interactions(USERS, ITEMS, num_users=4, num_items=5)


def drawn(model):
    params = model.init(jax.random.key(0))
    return model.knowing(params, KNOWN)


def test_factors_of_a_graph_score_as_the_model_and_stay_within_their_radii():
    model = lightgcn.model(num_users=4, num_items=5, dimension=3, num_layers=2, init_scale=1.0)
    params, bounds = drawn(model), factor_bounds.of_propagation(num_layers=2)
    factors, radii = bounds(params)
    np.testing.assert_allclose(
        factors.user @ factors.item.T, model.score_all(params, jnp.arange(4)), rtol=1e-4, atol=1e-5
    )
    tables, epsilon = params["tables"], 0.3
    reached = {"user": 0.0, "item": 0.0}
    rng = np.random.default_rng(0)
    for trial in range(20):
        moved = {}
        for name, table in tables.items():
            step = rng.normal(size=table.shape) if trial else np.eye(1, 3)[np.zeros(len(table), int)]
            unit = step / np.linalg.norm(step, axis=1, keepdims=True)
            moved[name] = table + jnp.float32(epsilon * np.linalg.norm(table, axis=1).mean() * unit)
        there, _ = bounds({**params, "tables": moved})
        for name in reached:
            gone = np.linalg.norm(getattr(there, name) - getattr(factors, name), axis=1).max()
            assert gone <= epsilon * getattr(radii, name) * (1 + 1e-5)
            reached[name] = max(reached[name], gone / (epsilon * float(getattr(radii, name))))
    assert min(reached.values()) > 1 - 1e-4, "all rows moved one way reach them"


def test_no_move_of_a_graphs_tables_gets_below_the_certified_ranks():
    model = lightgcn.model(num_users=4, num_items=5, dimension=3, num_layers=2, init_scale=1.0)
    params = drawn(model)
    factors, radii = factor_bounds.of_propagation(num_layers=2)(params)
    held_out = types.Interactions(np.arange(4, dtype=np.int32), np.array([3, 0, 4, 1], np.int32), 4, 5)
    plan, epsilons = evaluate.prepare([KNOWN], held_out), [0.0, 0.01, 0.03, 0.1, 0.3]
    certified = dot_product.certify(factors, plan, radii, epsilons, fall=dot_product.pairwise)
    tables, reached = params["tables"], [0] * len(epsilons)

    @jax.jit
    def steepest(user, better, worse):
        score = lambda tables, item: model.score({**params, "tables": tables}, user, item)
        margin = lambda tables: score(tables, worse) - score(tables, better)
        grads = jax.grad(margin)(tables)
        unit = lambda table, g: jnp.mean(jnp.linalg.norm(table, axis=1)) * g / jnp.linalg.norm(g, axis=1, keepdims=True)
        return jax.tree.map(unit, tables, grads)

    for user, item in zip(held_out.users, held_out.items, strict=True):
        for other in range(5):
            if other == item:
                continue
            way = steepest(user, item, np.int32(other))
            for place, epsilon in enumerate(epsilons):
                moved = jax.tree.map(lambda x, d, epsilon=epsilon: x + epsilon * jnp.nan_to_num(d), tables, way)
                ranks = evaluate.evaluate(model, {**params, "tables": moved}, plan).ranks
                assert np.all(ranks <= certified[place].ranks), (user, other, epsilon)
                reached[place] += int(np.sum(ranks == certified[place].ranks))
    assert np.any(certified[1].ranks < certified[-1].ranks), (
        "it says something at small budgets, and less at large ones"
    )
    assert min(reached) > 0, "attacks come as far as the certificate lets them"


def test_factors_of_two_tables_are_in_the_canonical_gauge():
    model = mf.model(num_users=4, num_items=5, dimension=3, init_scale=1.0)
    params = drawn(model)
    grown = {**params, "tables": {"user": 3 * params["tables"]["user"], "item": params["tables"]["item"] / 3}}
    (_, radii), (_, of_grown) = map(factor_bounds.of_tables(model), (params, grown))
    np.testing.assert_allclose(radii[:2], of_grown[:2], rtol=1e-4)
