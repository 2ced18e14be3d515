"""The control: as many edits as it is told, without aim."""

import edit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.edits import random_edits
from jaxrec.sequence_edits import Kind
from jaxrec.types import EditOracle

ORACLE = EditOracle(lambda ids: jnp.float32(0), edit_toys.NUM_ITEMS)


def many(attack, ids, oracle=ORACLE, num_keys=2000):
    run = jax.jit(jax.vmap(lambda key: attack(key, oracle, jnp.array(ids))))
    after, info = run(jax.random.split(jax.random.key(0), num_keys))
    return np.asarray(after), info


@pytest.mark.parametrize("name", ["padded", "full", "one item"])
def test_it_makes_all_its_edits(name):
    _, info = many(random_edits.attack(num_edits=3), edit_toys.HISTORIES[name], num_keys=100)
    assert (np.asarray(info["edits"]) == 3).all()


def test_it_stops_early_only_when_no_edit_is_left():
    after, info = many(random_edits.attack(num_edits=5, kinds=(Kind.DELETE,)), [-1, 4, 2, 3], num_keys=100)
    assert (np.asarray(info["edits"]) == 2).all()
    assert (after[:, :3] == -1).all()
    assert set(after[:, 3].tolist()) == {2, 3, 4}


def test_kinds_are_equally_likely():
    """2,000 draws, six standard deviations: one kind in three, though of deletions there are few."""
    after, _ = many(random_edits.attack(num_edits=1), edit_toys.HISTORIES["padded"])
    empty = (after == -1).sum(axis=1)
    for count in (1, 2, 3):
        assert abs((empty == count).mean() - 1 / 3) < 0.064, count


def test_replacements_are_uniform_over_places_and_other_items():
    """12 outcomes in 2,000 draws: each within six standard deviations of 1 in 12."""
    after, _ = many(random_edits.attack(num_edits=1, kinds=(Kind.REPLACE,)), [-1, 3, 5])
    outcomes, counts = np.unique(after, axis=0, return_counts=True)
    assert sorted(map(tuple, outcomes)) == sorted(map(tuple, edits_of_two()))
    assert (np.abs(counts / 2000 - 1 / 12) < 0.037).all()


def edits_of_two():
    return [(-1, new, 5) for new in range(7) if new != 3] + [(-1, 3, new) for new in range(7) if new != 5]


def test_different_keys_give_different_edits():
    after, _ = many(random_edits.attack(num_edits=2), edit_toys.HISTORIES["full"], num_keys=50)
    assert len(np.unique(after, axis=0)) > 25


def test_it_takes_as_many_edits_as_an_attack_reports():
    counts = jnp.array([0, 1, 3])
    run = jax.vmap(
        lambda num: random_edits.attack(num_edits=num)(jax.random.key(0), ORACLE, edit_toys.history("full"))[1]["edits"]
    )
    assert run(counts).tolist() == [0, 1, 3]


def test_it_asks_for_one_loss():
    asked = []

    def losses(ids):
        jax.debug.callback(lambda: asked.append(1))
        return jnp.float32(0)

    _, info = random_edits.attack(num_edits=3)(
        jax.random.key(0), EditOracle(losses, edit_toys.NUM_ITEMS), edit_toys.history("full")
    )
    jax.effects_barrier()
    assert (len(asked), int(info["queries"])) == (1, 1)
