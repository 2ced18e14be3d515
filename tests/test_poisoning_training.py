"""Users that a defender adds: what they lower, what they never touch, and that no budget is nothing."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shilled

from jaxrec import injection, packed, poisoning_training, profiles, provenance
from jaxrec.detectors import pca
from jaxrec.inner import ease
from jaxrec.poisoning import random_ratings
from jaxrec.studies import poison_study, study
from jaxrec.types import InputError, Interactions, Model, Split

UNHEARD = shilled.NUM_ITEMS  # an item that nobody has
DATA, KNOWN = (
    dataclasses.replace(data, num_items=UNHEARD + 1)
    for data in (shilled.contaminated("implicit")[0], shilled.real("implicit"))
)
NUM_ADDED, SURROGATE = 6, ease.surrogate(l2=50.0)


def add(data=DATA, *, seed=0, **options):
    options = {"num_added": NUM_ADDED, "surrogate": SURROGATE, **options}
    return poisoning_training.add(jax.random.key(seed), data, **options)


def digest(interactions):
    return provenance.fingerprint(interactions)["sha256"]


def risk(data):
    """Of those who were there before, in the surrogate trained with those who were added."""
    rows = jnp.asarray(profiles.matrix(data)[DATA.num_users :].toarray(), jnp.float32)
    prepared = SURROGATE.prepare(DATA, len(rows))
    solution = SURROGATE.solve(prepared, (), rows)
    scores = lambda users: SURROGATE.scores(prepared, solution, users)
    return float(injection.empirical_risk(packed.rows(DATA, injection.CHUNK), scores))


def test_no_users_are_nothing_bit_for_bit():
    assert digest(add(num_added=0)) == digest(DATA)


def test_who_was_there_stays_bit_for_bit_and_added_users_have_ids_that_nobody_has():
    ids = np.array([f"u{n}" for n in range(DATA.num_users - 1)] + ["fake-2"])
    named, before = dataclasses.replace(DATA, user_ids=ids, timestamps=np.arange(len(DATA)) + 7), digest(DATA)
    both = add(named)
    kept = dataclasses.replace(both.take(np.arange(len(DATA))), num_users=DATA.num_users, user_ids=ids)
    assert digest(kept) == digest(named)
    assert digest(DATA) == before
    assert both.num_users == DATA.num_users + NUM_ADDED
    assert both.users[len(DATA) :].min() == DATA.num_users
    assert len(np.unique(np.asarray(both.user_ids))) == both.num_users
    assert np.isin(np.asarray(both.timestamps), np.asarray(named.timestamps)).all()


def test_each_has_the_median_user_s_number_of_items_and_none_that_nobody_has():
    pairs = profiles.matrix(add())[DATA.num_users :]
    median = int(np.median(np.bincount(DATA.users, minlength=DATA.num_users)))
    assert pairs.sum(axis=1).ravel().tolist() == [median] * NUM_ADDED
    assert profiles.matrix(add(num_items=3))[DATA.num_users :].sum() == 3 * NUM_ADDED
    assert profiles.matrix(add(num_added=40, num_steps=0))[:, UNHEARD].sum() == 0


def test_a_key_decides_all():
    assert digest(add()) == digest(add())
    assert digest(add(num_steps=0)) != digest(add(num_steps=0, seed=1))


def test_the_empirical_risk_falls_below_that_of_random_users_and_of_none():
    learned, drawn = risk(add()), risk(add(num_steps=0))
    assert learned < drawn - 0.02
    assert learned < risk(DATA) - 0.02


def test_victims_train_on_added_users_who_are_in_no_average_and_saw_no_test_item(tmp_path):
    """A victim that scores real users as ever, and others by chance, has the same figures with and without them."""
    users = np.arange(KNOWN.num_users, dtype=np.int32)
    test = Interactions(users, np.full(len(users), UNHEARD, np.int32), KNOWN.num_users, KNOWN.num_items)
    scores = lambda params, users, items: params["scores"][users, items]
    model = Model(lambda key: {}, scores, lambda params, users: params["scores"][users])
    trained = []

    def victim(data, key, known=None):
        trained.append(data)
        chance = np.random.default_rng(len(trained)).random((data.num_users, data.num_items))
        chance[: KNOWN.num_users] = np.random.default_rng(0).random((KNOWN.num_users, KNOWN.num_items))
        return model, {"scores": jnp.asarray(chance, jnp.float32)}

    setting = poison_study.Setting(
        data=study.Data(Split(KNOWN, KNOWN.take(np.arange(0)), test), "few", "few", "drawn", {}),
        make={"random": lambda num, direction: random_ratings.attack(num_fakes=num, num_fillers=9)},
        victims={"chance": victim},
        detectors={"PCA": pca.detector()},
        targets={"tail": np.array([120, 140])},
        surrogate=SURROGATE,
        defended=("random",),
    )
    case = poison_study.Case("random", "push", "tail", 0.05)
    poison_study.run(tmp_path, setting, [case], seeds=[0])
    found = [
        json.loads(poison_study.path_of(tmp_path, folder, name, case, 0).read_text())
        for folder, name in (("measured", "chance"), ("defended", "chance-poisoning training"))
    ]
    assert found[0] == found[1]
    assert [data.num_users for data in trained] == [80, 84, 84, 84, 88]
    assert UNHEARD not in trained[-1].items


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_added": -1}, ValueError, "num_added >= 0, got num_added=-1"),
        ({"num_steps": -1}, ValueError, "num_steps >= 0, got num_steps=-1"),
        ({"step_size": 0.0}, ValueError, "step_size > 0 and finite, got step_size=0"),
        ({"num_items": 152}, InputError, r"num_items in \[0, \d+\], the items that users have, got 152"),
        ({"data": shilled.real("ratings")}, ValueError, "implicit feedback, got ratings"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        add(**options)
