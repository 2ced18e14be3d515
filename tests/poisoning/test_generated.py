"""Generated profiles: each of their three losses does what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shilled

from jaxrec import fake_profiles, injection, profiles
from jaxrec.fake_profiles import Budget
from jaxrec.inner import ease
from jaxrec.poisoning import generated

TARGETS, SURROGATE = np.array([120, 140]), ease.surrogate(l2=5.0)
BUDGET = Budget(6, 12, "push")


def craft(kind="implicit", **options):
    options = {"num_steps": 60, "hidden": 16, "learning_rate": 0.01, **options}
    make = generated.attack(num_fakes=6, num_fillers=12, surrogate=SURROGATE, **options)
    return make(jax.random.key(3), shilled.real(kind), TARGETS)


def outer_loss(fakes):
    """Of the surrogate that is trained with the fakes."""
    known = shilled.real("implicit")
    data, outer = SURROGATE.prepare(known, 6), injection.promoting(injection.audience(known, TARGETS), 0.1)
    rows = jnp.asarray(profiles.matrix(fakes).toarray())
    (loss, _), _ = injection.inner(SURROGATE, data, outer, (), rows)
    return float(loss)


def kept(fakes):
    """The share of fillers that the template has."""
    known = fake_profiles.know(jax.random.split(jax.random.key(3))[0], shilled.real("implicit"), TARGETS, BUDGET)
    users, _ = generated.templates(known)
    theirs = profiles.matrix(known.interactions)[users].toarray()
    made = profiles.matrix(fakes).toarray()
    made[:, TARGETS] = 0
    return float((made * theirs).sum() / made.sum())


def test_templates_are_users_with_items_enough():
    known = fake_profiles.know(jax.random.key(0), shilled.real("implicit"), TARGETS, BUDGET)
    users, pool = generated.templates(known)
    counts = profiles.matrix(known.interactions)[:, known.free].sum(axis=1)
    assert len(set(users.tolist())) == 6
    assert set(users.tolist()) <= set(pool.tolist())
    assert pool.tolist() == np.flatnonzero(counts >= 12).tolist()
    assert 0 < len(pool) < shilled.NUM_USERS


def test_the_template_s_loss_keeps_its_items():
    assert kept(craft(template_weight=20.0, promotion_weight=0.0)) > 0.9
    assert kept(craft(num_steps=0)) < 0.5


def test_promotion_promotes_and_its_opposite_demotes():
    alone = {"template_weight": 0.0, "promotion_weight": 30.0, "num_steps": 150}
    push, nuke = (outer_loss(craft(direction=direction, **alone)) for direction in ("push", "nuke"))
    assert push < outer_loss(craft(num_steps=0)) < nuke
    assert nuke > push + 0.05


def test_the_discriminator_s_loss_makes_fakes_of_items_that_real_users_have():
    """Without a template or a target to follow, fillers of a random generator are as popular as any item."""
    popularity = np.bincount(shilled.real("implicit").items, minlength=shilled.NUM_ITEMS)
    of = lambda fakes: popularity[fakes.items[~np.isin(fakes.items, TARGETS)]].mean()
    alone = {"template_weight": 0.0, "promotion_weight": 0.0, "learning_rate": 0.003}
    assert of(craft(**alone, num_steps=200)) > 1.15 * of(craft(**alone, num_steps=0))


def test_ratings_are_the_template_s_or_the_item_s_mean():
    fakes, known = craft("ratings"), shilled.real("ratings")
    users, _ = generated.templates(fake_profiles.know(jax.random.split(jax.random.key(3))[0], known, TARGETS, BUDGET))
    means = fake_profiles.item_means(fake_profiles.know(jax.random.key(0), known, TARGETS, BUDGET))
    own = {(u, i): r for u, i, r in zip(known.users, known.items, known.ratings, strict=True)}
    found = {True: 0, False: 0}
    for fake, item, rating in zip(fakes.users, fakes.items, fakes.ratings, strict=True):
        if item not in TARGETS:
            has = (users[fake], item) in own
            found[has] += 1
            assert abs(rating - (own[users[fake], item] if has else means[item])) <= (0 if has else 0.5)
    assert min(found.values()) > 0, "both kinds occur"


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_steps", -1), ("hidden", 0), ("template_weight", -0.5), ("promotion_weight", float("inf")),
     ("learning_rate", 0.0), ("temperature", float("nan"))],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"{name} >=? [01] and finite, got {name}={value}"):
        generated.attack(num_fakes=1, **{name: value})
