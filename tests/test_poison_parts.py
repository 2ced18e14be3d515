"""Attacks and victims by name: every one of them works as it is built, and unknown names are said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.studies import poison_parts
from jaxrec.types import InputError, Interactions

NAMES = ("item-kNN", "MF-BPR", "iALS", "EASE", "NeuMF", "LightGCN", "Mult-VAE")
SIZES = {"dimension": 4, "ease_l2": 1.0, "ials_l2": 0.01}
TRAINING = {
    "epochs": dict.fromkeys(("MF-BPR", "NeuMF", "LightGCN", "Mult-VAE"), 2),
    "neighbours": 3,
    "graph_batch": 16,
    "user_batch": 5,
}


def few():
    """Twelve users of eight items, in two camps."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(4, 3, replace=False) + 4 * (user % 2) for user in range(12)])
    return Interactions(np.repeat(np.arange(12, dtype=np.int32), 3), items.astype(np.int32), 12, 8)


@pytest.mark.parametrize("name", NAMES)
def test_every_victim_is_trained_as_its_name_says_and_again_alike(name):
    victim = poison_parts.victims([name], **SIZES, **TRAINING)[name]
    model, params = victim(few(), jax.random.key(0))
    scores = np.asarray(model.score_all(params, jnp.arange(12)))
    assert np.isfinite(scores).all()
    assert np.ptp(scores, axis=1).min() > 0
    same, again = victim(few(), jax.random.key(0))
    assert same is model
    np.testing.assert_array_equal(scores, np.asarray(model.score_all(again, jnp.arange(12))))


def test_every_attack_spends_the_same_number_of_items():
    made = poison_parts.attacks(list(poison_parts.ATTACKS), profile_size=4, num_selected=2, num_steps=0, **SIZES)
    alike = {"exact iALS", "unrolled", "generated"}  # prepare as exact EASE does, and take longer
    for name in set(made) - alike:
        fakes = made[name](3, "push")(jax.random.key(0), few(), np.array([1]))
        assert np.bincount(fakes.users).tolist() == [5, 5, 5], name


def test_names_that_are_unknown_are_said():
    with pytest.raises(
        InputError, match="--victims of item-kNN, MF-BPR, iALS, EASE, NeuMF, LightGCN, Mult-VAE; got no"
    ):
        poison_parts.victims(["nobody"], **SIZES, **TRAINING)
    with pytest.raises(InputError, match="--attacks of random, average"):
        poison_parts.attacks(["nothing"], profile_size=4, num_selected=2, num_steps=0, **SIZES)
