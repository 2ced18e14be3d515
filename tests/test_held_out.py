"""The closed-form adversary of item rows: what it claims to do it does, and the certificate is what it attains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ranking_cases

from jaxrec import evaluate, held_out
from jaxrec.certificates import dot_product
from jaxrec.models import mf

EPSILONS = jnp.asarray([0.0, 0.02, 0.1, 0.3, 1.0, 3.0])


@pytest.mark.parametrize("bias", [False, True])
def test_its_ranks_are_the_certified_ranks_of_item_rows_whatever_k(bias):
    for seed in ranking_cases.SEEDS:
        cases = ranking_cases.draw(seed, bias=bias)
        attained = held_out.ranks(cases.factors, cases.plan, EPSILONS)
        for fall in (dot_product.sufficient, dot_product.pairwise):
            bound = dot_product.ranks(cases.factors, cases.plan, dot_product.Radii(item=1.0), EPSILONS, fall=fall)
            np.testing.assert_array_equal(attained, bound)
        assert len(np.unique(attained)) == ranking_cases.NUM_ITEMS - ranking_cases.NUM_SEEN


def test_its_ranks_are_those_of_the_perturbed_tables_of_each_user():
    cases = ranking_cases.draw(4)
    user, item, _ = cases.factors
    for epsilon, ranks in zip(EPSILONS, held_out.ranks(cases.factors, cases.plan, EPSILONS), strict=True):
        delta = jax.vmap(lambda user, target: held_out.perturbation(user, target, len(item), epsilon))(  # noqa: B023
            user, jnp.asarray(cases.targets)
        )
        norms = np.linalg.norm(np.asarray(delta, np.float64), axis=2)
        np.testing.assert_allclose(norms, epsilon, rtol=1e-6)
        scores = np.einsum("ud,uid->ui", user, np.asarray(item)[None] + np.asarray(delta))
        np.testing.assert_array_equal(ranks, ranking_cases.ranks(scores, cases))


def test_no_random_perturbation_of_item_rows_does_more():
    cases = ranking_cases.draw(5)
    user, item = (np.asarray(table) for table in cases.factors[:2])
    rng = np.random.default_rng(0)
    worst = np.asarray(held_out.ranks(cases.factors, cases.plan, jnp.asarray([0.5])))[0]
    for _ in range(20):
        delta = rng.normal(size=(len(user), *item.shape))
        delta *= 0.5 / np.linalg.norm(delta, axis=2, keepdims=True)
        assert (ranking_cases.ranks(np.einsum("ud,uid->ui", user, item + delta), cases) <= worst).all()


@pytest.mark.parametrize("integers", [False, True])
def test_epsilon_0_is_the_clean_ranking_ties_and_all(integers):
    cases = ranking_cases.draw(6, integers=integers)
    model = mf.model(num_users=ranking_cases.NUM_USERS, num_items=ranking_cases.NUM_ITEMS)
    params = {"tables": {"user": cases.factors.user, "item": cases.factors.item}}
    found = held_out.ranks(cases.factors, cases.plan, jnp.zeros(1))[0]
    np.testing.assert_array_equal(found, evaluate.ranks(model, params, cases.plan))


def test_a_user_whose_row_is_zero_is_not_attacked():
    np.testing.assert_array_equal(held_out.perturbation(jnp.zeros(3), 1, 4, 0.5), np.zeros((4, 3)))


def test_tables_that_do_not_fit_are_refused():
    cases = ranking_cases.draw(0)
    with pytest.raises(ValueError, match=r"Expected user of shape \(250, 3\), got \(249, 3\)"):
        held_out.ranks(cases.factors._replace(user=cases.factors.user[1:]), cases.plan, EPSILONS)
