"""One attack with the lengths of another, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import norms, oracles
from jaxrec.attacks import fgsm, msap, pgd
from jaxrec.studies import matched

KEY = jax.random.key(3)
VICTIM = toys.tables()
ORACLE = oracles.white_box(VICTIM.losses)
LONG = msap.attack(epsilon=0.2, num_steps=6)


def test_every_row_is_as_long_as_the_references():
    reference, _ = LONG(KEY, ORACLE, VICTIM.x)
    delta, info = jax.jit(lambda x: matched.lengths(LONG, fgsm.attack(epsilon=1.0))(KEY, ORACLE, x))(VICTIM.x)
    for name, rows in delta.items():
        lengths = np.where(toys.ABSENT[name], 0, norms.L2.size(reference[name]))
        np.testing.assert_allclose(norms.L2.size(rows), lengths, rtol=1e-5)
        np.testing.assert_allclose(info["norms"][name], lengths, rtol=1e-5)
        assert len(np.unique(np.round(lengths, 4))) > 2, "all rows are equally long: nothing was tried"
    assert info["gradient_evaluations"] == 7


def test_with_equal_lengths_it_is_the_attack_itself():
    equal = fgsm.attack(epsilon=0.3)
    ours, _ = matched.lengths(equal, pgd.attack(epsilon=1.0, num_steps=4))(KEY, ORACLE, VICTIM.x)
    expected, _ = pgd.attack(epsilon=0.3, num_steps=4)(KEY, ORACLE, VICTIM.x)
    jax.tree.map(lambda ours, other: np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-6), ours, expected)


def test_rows_that_the_reference_leaves_alone_stay_and_masks_are_kept():
    x = jnp.ones((3, 2))
    some = lambda key, oracle, x: (x * jnp.array([[0.0], [3.0], [4.0]]), {"gradient_evaluations": 0, "queries": 0})
    where = jnp.array([[True, True], [True, False], [True, True]])
    oracle = oracles.white_box(lambda key, x: jnp.sum(x, axis=1), where=where)
    delta, _ = matched.lengths(some, fgsm.attack(epsilon=1.0))(KEY, oracle, x)
    np.testing.assert_allclose(delta, [[0, 0], [3 * 2**0.5, 0], [4, 4]], rtol=1e-6)


def test_a_box_is_refused():
    oracle = oracles.white_box(lambda key, x: jnp.sum(x, axis=1), box=(0.0, 1.0))
    with pytest.raises(ValueError, match="Expected an oracle without a box"):
        matched.lengths(LONG, LONG)(KEY, oracle, jnp.ones((2, 2)))
