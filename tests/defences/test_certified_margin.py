"""The certified margin against worst cases that are searched for; what it does to a certificate and to small rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_every_defence as laws
import toys

from jaxrec import evaluate, losses, objectives, sampling, train
from jaxrec.certificates import dot_product
from jaxrec.defences import certified_margin
from jaxrec.models import mf
from jaxrec.types import Interactions

USERS, ITEMS = 8, 10
MODEL = mf.model(num_users=USERS, num_items=ITEMS, dimension=4, init_scale=0.01)
OPTIMIZER = optax.sgd(0.1)
FALLS = [dot_product.sufficient, dot_product.pairwise]


def data():
    """Users like the items of their own half; of each user's five, one is held out."""
    users, items = np.divmod(np.arange(USERS * ITEMS, dtype=np.int32), ITEMS)
    own = users % 2 == items % 2
    held_out = own & (items // 2 == users // 2)
    part = lambda rows: Interactions(users[rows], items[rows], USERS, ITEMS)
    return part(own & ~held_out), part(held_out)


def made(epsilon, adv_weight=1.0):
    clean = objectives.pairwise(model=MODEL)
    return certified_margin.objective(
        clean=clean, num_users=USERS, num_items=ITEMS, epsilon=epsilon, adv_weight=adv_weight
    )


@functools.cache
def trainer():
    """Of the step whose epsilon is the state's first hyperparameter: one compilation for clean and certified."""
    train_pairs, _ = data()
    order = lambda epoch: sampling.shuffled(train_pairs, seed=0, epoch=epoch)
    batches = [sampling.batches(train_pairs, order(e), batch_size=16, first=0, num=2) for e in range(100)]
    batches = {name: jnp.asarray(np.concatenate([batch[name] for batch in batches])) for name in batches[0]}
    seen = sampling.seen(train_pairs)

    @jax.jit
    def run(params, epsilon):
        step = train.make_step(made(epsilon), OPTIMIZER)
        state = train.init_state(params, OPTIMIZER, jax.random.key(1))
        return train.scan(step, sampling.negatives, train.ALONE, state, {}, seen, batches)

    def go(tables, epsilon):
        state, metrics = run({"tables": tables, "weights": {}, "given": {}}, jnp.float32(epsilon))
        return state.trained["tables"], metrics

    return go


@functools.cache
def begun():
    return trainer()(MODEL.init(jax.random.key(0))["tables"], 0.0)[0]


def certified_hits(tables, epsilons):
    """Share of held-out items that stay first, in the canonical gauge, at relative epsilons."""
    params = MODEL.canonical({"tables": tables, "weights": {}, "given": {}})
    factors = certified_margin.two_tables(params)
    plan = evaluate.prepare([data()[0]], data()[1])
    found = dot_product.certify(factors, plan, dot_product.relative(factors), epsilons)
    return [float((each.ranks <= 1).mean()) for each in found]


def test_the_certificate_of_held_out_items_rises_over_clean_training_as_long():
    before, clean, robust = (
        certified_hits(tables, [0.0, 0.1, 0.2, 0.3])
        for tables in (begun(), trainer()(begun(), 0.0)[0], trainer()(begun(), 0.3)[0])
    )
    assert before[0] == clean[0] == robust[0] == 1.0
    assert min(robust) >= 0.9
    assert max(before[3], clean[2], clean[3]) <= 0.1


def test_from_small_starts_rows_shrink_and_from_a_trained_model_they_do_not():
    small = MODEL.init(jax.random.key(0))["tables"]
    size = lambda tables: float(jnp.sqrt(sum(jnp.sum(jnp.square(table)) for table in tables.values())))
    shrunk, metrics = trainer()(small, 0.8)
    assert size(shrunk) < 0.5 * size(small)
    np.testing.assert_allclose(metrics["adv_loss"][-1] / metrics["examples"][-1], np.log(2), rtol=1e-3)
    assert size(trainer()(small, 0.0)[0]) > 2 * size(small), "clean training does not shrink them"
    assert size(trainer()(begun(), 0.3)[0]) > 0.5 * size(begun())


@pytest.mark.parametrize("fall", FALLS)
def test_no_perturbation_of_a_pairs_rows_gets_below_the_certified_margin(fall):
    """Random ones of full length and the worst one of the items, pair by pair, in float64."""
    objective = certified_margin.objective(clean=laws.CLEAN, num_users=4, num_items=6, epsilon=0.2, fall=fall)
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    radius = {name: 0.2 * np.linalg.norm(table, axis=1).mean() for name, table in tables.items()}
    rng = np.random.default_rng(0)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)

    @jax.jit
    def margin_of(row):
        batch = {**toys.BATCH, "where": jnp.arange(6) == row}
        return objective(toys.params(), batch, jax.random.key(0), lambda tree: tree)[1]["adv_margin"]

    for row in range(5):
        u, i, j = (int(toys.BATCH[name][row]) for name in ("users", "pos", "neg"))
        user, apart = tables["user"][u], tables["item"][i] - tables["item"][j]
        moved = user + radius["user"] * unit(np.r_[rng.normal(size=(20_000, 3)), -apart[None]])
        worst = (moved @ apart - 2 * radius["item"] * np.linalg.norm(moved, axis=1)).min()
        bound = float(margin_of(row))
        assert bound <= worst + 1e-5
        if fall is dot_product.pairwise:
            assert bound == pytest.approx(worst, abs=0.01), "which is attained"


@pytest.mark.parametrize("fall", FALLS)
def test_padding_whose_negative_is_its_positive_leaves_the_gradient_finite_at_epsilon_0(fall):
    objective = certified_margin.objective(clean=laws.CLEAN, num_users=4, num_items=6, epsilon=0.0, fall=fall)
    neg = jnp.asarray(toys.BATCH["neg"]).at[5].set(toys.BATCH["pos"][5])
    batch = {**toys.BATCH, "neg": neg, "where": jnp.arange(6) < 5}
    loss = lambda params: objective(params, batch, jax.random.key(0), lambda tree: tree)[0]
    slopes = jax.grad(loss)(toys.params())["tables"]
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert np.abs(slopes["item"]).max() > 0


@pytest.mark.parametrize("fall", FALLS)
@pytest.mark.parametrize("table", ["user", "item"])
def test_the_radii_have_a_gradient(fall, table):
    """A certified margin at a relative epsilon grows as the table does (Euler); at constant radii it grows faster."""
    clean = lambda params, batch, key, reduce: (jnp.zeros(()), {})
    objective = certified_margin.objective(
        clean=clean, num_users=4, num_items=6, epsilon=0.2, fall=fall, loss=lambda pos, neg: neg - pos
    )

    @jax.jit
    def loss(x):
        params = {**toys.params(), "tables": toys.params()["tables"] | {table: x}}
        return objective(params, toys.BATCH, jax.random.key(0), lambda tree: tree)[0]

    x = toys.params()["tables"][table]
    value, grad = jax.value_and_grad(loss)(x)
    assert float(jnp.vdot(grad, x)) == pytest.approx(float(value), rel=1e-3)
    direction = toys.normal(7, *x.shape)
    step = 1e-2 * direction
    assert float(jnp.vdot(grad, direction)) == pytest.approx(float(loss(x + step) - loss(x - step)) / 2e-2, rel=0.01)


def test_several_negatives_count_as_their_mean_and_biases_have_a_radius():
    biased = lambda params: certified_margin.two_tables(params)._replace(item_bias=jnp.arange(6.0))
    alone = {**toys.BATCH, "where": jnp.arange(6) == 0}

    def of(neg):
        clean = lambda params, batch, key, reduce: (jnp.zeros(()), {})
        objective = certified_margin.objective(
            clean=clean, num_users=4, num_items=6, epsilon=0.1, loss=losses.hinge, factors=biased
        )
        return objective(toys.params(), {**alone, "neg": neg}, jax.random.key(0), lambda tree: tree)[1]

    neg = jnp.array([[3, 1]] * 6)
    both, first, second = of(neg), of(neg[:, 0]), of(neg[:, 1])
    for name in ("adv_loss", "adv_margin"):
        assert float(both[name]) == pytest.approx((float(first[name]) + float(second[name])) / 2, rel=1e-5)
    tables = {name: np.asarray(table, float) for name, table in toys.params()["tables"].items()}
    norm = {name: np.linalg.norm(table, axis=1) for name, table in tables.items()}
    apart = tables["item"][0] - tables["item"][3]
    user_radius, item_radius = (0.1 * norm[name].mean() for name in ("user", "item"))
    expected = tables["user"][1] @ apart + 0 - 3 - 2 * 0.1 * np.abs(np.arange(6) - 2.5).mean()
    expected -= user_radius * np.linalg.norm(apart) + 2 * item_radius * (norm["user"][1] + user_radius)
    assert float(first["adv_margin"]) == pytest.approx(expected, rel=1e-4)


def test_tables_of_other_sizes_and_bad_weights_are_refused():
    objective = certified_margin.objective(clean=laws.CLEAN, num_users=4, num_items=5, epsilon=0.1)
    with pytest.raises(ValueError, match="4 users and 5 items, got 4 and 6: certified margins need dense steps"):
        objective(toys.params(), toys.BATCH, jax.random.key(0), lambda tree: tree)
    with pytest.raises(ValueError, match="adv_weight=-1"):
        certified_margin.objective(clean=laws.CLEAN, num_users=4, num_items=6, epsilon=0.1, adv_weight=-1.0)
