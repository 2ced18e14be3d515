"""What is special to iALS: each half-sweep is the exact minimum of the objective, in one of the tables."""

import jax
import jax.numpy as jnp
import numpy as np
import planted_world
import pytest

from jaxrec.models import ials
from jaxrec.types import Interactions

NUM_USERS, NUM_ITEMS, DIMENSION = 9, 7, 3
L2, UNOBSERVED, EXPONENT = 0.05, 0.3, 0.8
PAIRS = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.4
PAIRS[4] = False  # a user without history
PAIRS[:, 3] = False  # an item never seen
PAIRS[0] = True
PAIRS[0, 3] = False  # a list of six: more than one piece
TRAIN = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=NUM_USERS, num_items=NUM_ITEMS)
SETTINGS = {"dimension": DIMENSION, "l2": L2, "unobserved_weight": UNOBSERVED, "l2_exponent": EXPONENT}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several pieces of a list and several chunks of rows, on tables of a few rows."""
    monkeypatch.setattr(ials, "PIECE", 2)
    monkeypatch.setattr(ials, "ROWS", 4)


def tables(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NUM_USERS, DIMENSION)), rng.normal(size=(NUM_ITEMS, DIMENSION))


def objective(user, item):
    """The docstring's formula, in plain sums; NumPy float64 or jax."""
    scores = user @ item.T
    counts = PAIRS.sum(axis=1), PAIRS.sum(axis=0)
    decays = (
        L2 * (count + UNOBSERVED * others) ** EXPONENT
        for count, others in zip(counts, (NUM_ITEMS, NUM_USERS), strict=True)
    )
    decayed = sum((decay[:, None] * table**2).sum() for decay, table in zip(decays, (user, item), strict=True))
    return (PAIRS * (1 - scores) ** 2).sum() + UNOBSERVED * (scores**2).sum() + decayed


def half_sweeps():
    """Tables after the users' half-sweep, and after the items' that follows."""
    user, item = (jnp.asarray(table, jnp.float32) for table in tables())
    by_user, by_item = ials.plans(TRAIN)
    assert by_user.owners.shape[0] == 3
    weights = jnp.array([L2, UNOBSERVED, EXPONENT])
    sweep = jax.jit(ials.half_sweep)
    user = sweep(user, item, by_user, weights)
    return (user, item), (user, sweep(item, user, by_item, weights))


def test_a_half_sweep_solves_the_normal_equations_of_every_row():
    (user, item), _ = half_sweeps()
    item = np.asarray(item, float)
    for row in range(NUM_USERS):
        own = item[PAIRS[row]]
        decay = L2 * (len(own) + UNOBSERVED * NUM_ITEMS) ** EXPONENT
        left = own.T @ own + UNOBSERVED * item.T @ item + decay * np.eye(DIMENSION)
        np.testing.assert_allclose(user[row], np.linalg.solve(left, own.sum(axis=0)), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_objective_is_zero_after_a_half_sweep():
    by_user, by_item = half_sweeps()
    start = [jnp.asarray(table, jnp.float32) for table in tables()]
    gradient = jax.jit(jax.grad(objective, argnums=(0, 1)))
    scale = max(float(jnp.abs(grad).max()) for grad in gradient(*start))
    assert float(jnp.abs(gradient(*by_user)[0]).max()) < 1e-5 * scale
    assert float(jnp.abs(gradient(*by_item)[1]).max()) < 1e-5 * scale
    assert float(jnp.abs(gradient(*by_user)[1]).max()) > 1e-2 * scale  # the other table is not yet where it should be


def test_solving_lowers_the_objective_epoch_by_epoch_and_the_unseen_have_rows_of_zeros():
    values = []
    for num_epochs in (1, 2, 4):
        model = ials.model(num_users=NUM_USERS, num_items=NUM_ITEMS, num_epochs=num_epochs, **SETTINGS)
        params = model.solve(TRAIN, jax.random.key(0))
        user, item = (np.asarray(params["tables"][name], float) for name in ("user", "item"))
        values.append(objective(user, item))
    assert values[0] > values[1] > values[2]
    np.testing.assert_array_equal(user[4], 0)
    np.testing.assert_array_equal(item[3], 0)


def test_the_tables_start_from_a_normal_over_the_root_of_the_dimension():
    model = ials.model(num_users=300, num_items=200, dimension=16, init_scale=0.2)
    for table in model.init(jax.random.key(0))["tables"].values():
        assert float(jnp.std(table)) == pytest.approx(0.05, rel=0.05)


def test_the_planted_groups_are_found():
    model = ials.model(num_users=planted_world.NUM_USERS, num_items=planted_world.NUM_ITEMS, dimension=3, l2=0.01)
    params = model.solve(planted_world.interactions(), jax.random.key(0))
    assert planted_world.share_found(np.asarray(model.score_all(params, jnp.arange(planted_world.NUM_USERS)))) == 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("num_epochs", 0), ("l2", 0.0), ("unobserved_weight", -1.0), ("l2_exponent", -0.5)]
)
def test_wrong_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        ials.model(**{"num_users": 2, "num_items": 2, "dimension": 2, name: value})
