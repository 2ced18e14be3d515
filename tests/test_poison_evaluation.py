"""Poisoned recommenders measured, against loops in NumPy, and from end to end on victims that are trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import fake_profiles, losses, objectives, poison_evaluation, sampling, sequences
from jaxrec.models import ease, ensemble, ials, item_knn, lightgcn, mf, mult_vae, neumf
from jaxrec.poisoning import bandwagon
from jaxrec.studies import poison_victims
from jaxrec.types import InputError, Interactions, Model

NUM_USERS, NUM_ITEMS = 6, 9
MODEL = Model(
    init=lambda key: {},
    score=lambda params, users, items: params["tables"]["scores"][users, items],
    score_all=lambda params, users: params["tables"]["scores"][users],
)
KNOWN = Interactions(np.array([0, 0, 1, 2, 3, 4, 5], np.int32), np.array([0, 3, 3, 1, 2, 7, 8], np.int32), 6, 9)
HELD_OUT = Interactions(np.array([0, 1, 4], np.int32), np.array([1, 2, 3], np.int32), 6, 9)
TARGETS = np.array([3, 5])


def scores(seed):
    """Of the real users and two fakes; coarse, so that there are ties."""
    return np.random.default_rng(seed).integers(0, 6, (NUM_USERS + 2, NUM_ITEMS)).astype(np.float32)


def measure(table):
    on = poison_evaluation.bench(KNOWN, HELD_OUT, TARGETS)
    return poison_evaluation.measure(MODEL, {"tables": {"scores": jnp.asarray(table)}}, on)


def changes(*tables):
    return poison_evaluation.changes(*(poison_evaluation.figures(measure(table), (3,)) for table in tables))


def test_targets_are_ranked_among_what_a_user_does_not_know():
    table = scores(0)
    found = measure(table)
    for user in range(NUM_USERS):
        unknown = np.setdiff1d(np.arange(NUM_ITEMS), KNOWN.items[KNOWN.users == user])
        for place, target in enumerate(TARGETS):
            if target not in unknown:
                assert np.isnan(found.target_ranks[user, place])
                assert np.isnan(found.target_scores[user, place])
                continue
            own, others = table[user, target], table[user, unknown]
            assert found.target_ranks[user, place] == (others >= own).sum()
            expected = (own - others.mean()) / others.std()
            np.testing.assert_allclose(found.target_scores[user, place], expected, rtol=1e-5, atol=1e-6)


def test_figures_are_means_over_the_users_who_do_not_know_a_target():
    found = measure(scores(1))
    values = poison_evaluation.figures(found, (2, 4))
    for k in (2, 4):
        hits, gains, shares = [], [], []
        for place, target in enumerate(TARGETS):
            audience = [u for u in range(NUM_USERS) if target not in KNOWN.items[KNOWN.users == u]]
            ranks = [found.target_ranks[u, place] for u in audience]
            hits.append(sum(rank <= k for rank in ranks) / len(audience))
            gain = sum(1 / np.log2(1 + rank) for rank in ranks if rank <= k)
            gains.append(gain / len(audience))
            shares.append(gain / (NUM_USERS * sum(1 / np.log2(1 + j) for j in range(1, k + 1))))
        np.testing.assert_allclose(values[f"target_hit_rate@{k}"], np.mean(hits), rtol=1e-12)
        np.testing.assert_allclose(values[f"target_ndcg@{k}"], np.mean(gains), rtol=1e-12)
        np.testing.assert_allclose(values[f"exposure@{k}"], np.mean(shares), rtol=1e-12)
        np.testing.assert_allclose(values[f"hit_rate@{k}"], np.mean(found.ranks <= k), rtol=1e-12)
    assert 0 < values["target_hit_rate@4"] < 1


def test_fakes_are_in_no_average():
    table = scores(2)
    other = table.copy()
    other[NUM_USERS:] = 100 * np.arange(NUM_ITEMS)
    assert poison_evaluation.figures(measure(table), (3,)) == poison_evaluation.figures(measure(other), (3,))


def test_changes_are_after_less_before_and_the_shift_has_no_scale():
    before, after = scores(3), scores(3)
    after[:, 5] += 7
    found = changes(before, after)
    assert found["target_hit_rate_change@3"] > 0
    assert found["prediction_shift"] > 0
    scaled = changes(before, 8 * after - 3)
    np.testing.assert_allclose(scaled["prediction_shift"], found["prediction_shift"], rtol=1e-5)
    assert set(changes(before, before).values()) == {0.0}


def test_equal_scores_have_no_standard_score():
    found = measure(np.ones((NUM_USERS + 2, NUM_ITEMS)))
    assert np.nanmax(np.abs(found.target_scores)) == 0


def test_what_a_defence_takes_back_is_a_share_of_what_was_lost():
    found = poison_evaluation.recovered(
        {"a": 0.2, "b": 0.5, "c": 1.0}, {"a": 0.6, "b": 0.4, "c": 1.0}, {"a": 0.3, "b": 0.4, "c": 1.0}
    )
    np.testing.assert_allclose(found["a"], 0.75, rtol=1e-12)
    assert found["b"] == 0
    assert np.isnan(found["c"])


def test_a_fake_that_copies_a_real_user_lies_at_no_distance():
    known = Interactions(np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 1, 2], np.int32), 3, 5)
    fakes = Interactions(np.array([0, 0, 1], np.int32), np.array([0, 1, 4], np.int32), 2, 5)
    of_fakes, of_real = poison_evaluation.distances(known, fakes)
    np.testing.assert_allclose(of_fakes, [0, 1], atol=1e-6)
    np.testing.assert_allclose(of_real, [0.5, 0.5, 1], atol=1e-6)


def test_a_target_that_everyone_knows_is_refused():
    known = Interactions(np.arange(3, dtype=np.int32), np.zeros(3, np.int32), 3, 4)
    held_out = Interactions(np.array([0], np.int32), np.array([1], np.int32), 3, 4)
    with pytest.raises(InputError, match="got item 0, which everyone has"):
        poison_evaluation.bench(known, held_out, np.array([2, 0]))


VICTIMS = {
    "item-kNN": poison_victims.solved(item_knn.model),
    "EASE": poison_victims.solved(functools.partial(ease.model, l2=5.0)),
    "iALS": poison_victims.solved(functools.partial(ials.model, dimension=4)),
    "ensemble": poison_victims.solved(functools.partial(ensemble.model, dimension=4)),
    "MF": poison_victims.by_bpr(functools.partial(mf.model, dimension=4), num_epochs=30, batch_size=32),
    "NeuMF": poison_victims.by_steps(
        functools.partial(neumf.model, dimension=4, num_layers=1, init_scale=0.1),
        lambda model: objectives.listwise(model=model, loss=losses.bce),
        optax.adam(0.01),
        num_epochs=20,
        batch_size=64,
        draw=functools.partial(sampling.negatives, num=4),
    ),
    "LightGCN": poison_victims.by_steps(
        functools.partial(lightgcn.model, dimension=4, num_layers=2),
        lambda model: objectives.pairwise(model=model, l2=1e-4),
        optax.adam(0.05),
        num_epochs=30,
        batch_size=64,
    ),
    "Mult-VAE": poison_victims.by_steps(
        functools.partial(mult_vae.model, dimension=8, latent_dimension=4),
        lambda model: mult_vae.objective(anneal_steps=0, dropout=0.2),
        optax.adam(0.02),
        num_epochs=60,
        batch_size=20,
        examples=functools.partial(sequences.examples, at_least=1),
    ),
}


@pytest.mark.parametrize("name", VICTIMS)
def test_a_strong_attack_is_seen_to_succeed_on_a_victim_that_is_trained_anew(name):
    """Everyone has three of the items 0 to 9, the target nobody: half as many fakes as users bring it to the top."""
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(10)[:5] for _ in range(40)])
    users = np.repeat(np.arange(40, dtype=np.int32), 4)
    known = Interactions(users, items[:, :4].astype(np.int32).ravel(), 40, 12)
    held_out = Interactions(np.arange(40, dtype=np.int32), items[:, 4].astype(np.int32), 40, 12)
    on = poison_evaluation.bench(known, held_out, np.array([11]))
    fakes = bandwagon.attack(num_fakes=20, num_fillers=2, num_selected=3)(jax.random.key(0), known, np.array([11]))
    before, after = (
        poison_evaluation.measure(*VICTIMS[name](data, jax.random.key(1)), on)
        for data in (known, fake_profiles.contaminate(known, fakes))
    )
    found = poison_evaluation.changes(*(poison_evaluation.figures(each, (3,)) for each in (before, after)))
    assert found["target_hit_rate_change@3"] > 0.15
    assert found["prediction_shift"] > 0.3
    again = poison_evaluation.measure(*VICTIMS[name](known, jax.random.key(1)), on)
    np.testing.assert_array_equal(again.target_ranks, before.target_ranks)


def few():
    """Twelve users of eight items."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(8, 4, replace=False) for _ in range(12)]).astype(np.int32)
    return Interactions(np.repeat(np.arange(12, dtype=np.int32), 4), items, 12, 8)


def test_bpr_step_by_step_ends_where_the_victim_of_any_objective_does():
    build = functools.partial(mf.model, dimension=3, init_scale=0.1)
    objective = lambda model: objectives.pairwise(model=model)
    summed = poison_victims.by_steps(build, objective, optax.sgd(0.05), num_epochs=4, batch_size=16)
    direct = poison_victims.by_bpr(build, num_epochs=4, learning_rate=0.05, batch_size=16)
    (_, one), (_, other) = (victim(few(), jax.random.key(3)) for victim in (summed, direct))
    for name, table in one["tables"].items():
        np.testing.assert_allclose(table, other["tables"][name], atol=1e-6)
    assert np.ptp(one["tables"]["item"]) > 0.3


def test_training_that_goes_on_starts_where_the_first_has_ended():
    build = functools.partial(mf.model, dimension=3, init_scale=0.1)
    first = poison_victims.by_bpr(build, num_epochs=4, batch_size=16)
    objective = lambda model: objectives.pairwise(model=model)
    still = poison_victims.by_steps(build, objective, optax.sgd(0.0), num_epochs=1, batch_size=16, after=first)
    (_, end), (_, same) = first(few(), jax.random.split(jax.random.key(3))[0]), still(few(), jax.random.key(3))
    np.testing.assert_array_equal(same["tables"]["item"], end["tables"]["item"])


@pytest.mark.parametrize("name", VICTIMS)
def test_whoever_was_left_out_is_served_by_what_is_known_and_nobody_else_is_served_other(name):
    """Two camps of users, of the first and the last six items; the last four users are left out of the training."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(6, 4, replace=False) + 6 * (user % 2) for user in range(40)]).astype(np.int32)
    known = Interactions(np.repeat(np.arange(40, dtype=np.int32), 4), items, 40, 12)
    train, key = known.take(known.users < 36), jax.random.key(0)
    (model, without), (_, params) = VICTIMS[name](train, key), VICTIMS[name](train, key, known)
    before, after = (np.asarray(model.score_all(each, jnp.arange(40))) for each in (without, params))
    np.testing.assert_array_equal(after[:36], before[:36])
    own = np.arange(36, 40)[:, None] % 2 == np.arange(12)[None] // 6
    advantage = lambda scores: np.where(own, scores[36:], -scores[36:]).mean()
    assert advantage(after) > advantage(before) + 0.01


def test_who_was_left_out_of_a_graph_does_not_come_back_when_it_serves():
    known = few()
    model, params = VICTIMS["LightGCN"](known.take(known.users < 9), jax.random.key(0))
    before = np.asarray(model.score_all(params, jnp.arange(9)))
    model, params = VICTIMS["LightGCN"](known.take(known.users < 9), jax.random.key(0), known)
    np.testing.assert_array_equal(np.asarray(model.score_all(params, jnp.arange(9))), before)
    plain = lightgcn.model(num_users=12, num_items=8, dimension=4, num_layers=2)
    assert np.abs(np.asarray(plain.score_all(plain.knowing(params, known), jnp.arange(9))) - before).max() > 1e-3


def test_a_victim_that_is_trained_by_steps_is_not_solved():
    with pytest.raises(ValueError, match="take `by_steps`"):
        poison_victims.solved(functools.partial(mf.model, dimension=2))(few(), jax.random.key(0))
