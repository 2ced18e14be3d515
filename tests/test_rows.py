"""A step on the touched rows, and an objective in pieces, against the same mathematics on whole tables."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import objectives, rows, surfaces, train
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.models import biased_mf, mf
from jaxrec.types import Model

EPSILON, ADV_WEIGHT = 0.5, 0.7
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "adagrad": optax.adagrad(0.05, initial_accumulator_value=0.1),
    "adam": optax.adam(0.01),
    "momentum": optax.sgd(0.1, momentum=0.9),
}
alone = lambda tree: tree


def make_tables(num_users=40, num_items=50, dimension=4, seed=0):
    rng = np.random.default_rng(seed)
    table = lambda rows: jnp.asarray(rng.normal(size=(rows, dimension)), jnp.float32)
    return {"user": table(num_users), "item": table(num_items)}


def make_batch(seed=0):
    """Ten examples: repeated users, items repeated among positives and across the two columns, the last rows, one
    example that does not count."""
    batch = {
        "users": [3, 3, 39, 7, 3, 39, 0, 11, 11, 5],
        "pos": [1, 2, 1, 49, 8, 2, 0, 1, 30, 7],
        "neg": [2, 2, 49, 1, 9, 3, 4, 30, 1, 6],
        "where": [True] * 9 + [False],
    }
    roll = lambda values: np.roll(values, seed)
    return {name: jnp.asarray(roll(values), bool if name == "where" else np.int32) for name, values in batch.items()}


def dense_step(optimizer, adversarial, state, batch):
    """One step as the papers write it, on whole tables."""

    def loss(tables, delta):
        user, item = tables["user"] + delta["user"], tables["item"] + delta["item"]
        margin = jnp.sum(user[batch["users"]] * (item[batch["pos"]] - item[batch["neg"]]), axis=1)
        return jnp.sum(jnp.where(batch["where"], jnp.log(1 + jnp.exp(-margin)), 0))

    nothing = jax.tree.map(jnp.zeros_like, state.trained["tables"])
    grads = jax.grad(loss)(state.trained["tables"], nothing)
    if adversarial:
        row_norms = {name: jnp.sqrt(jnp.sum(g**2, axis=1, keepdims=True)) for name, g in grads.items()}
        delta = {name: EPSILON * g / jnp.where(row_norms[name] > 0, row_norms[name], 1) for name, g in grads.items()}
        adv_grads = jax.grad(loss)(state.trained["tables"], delta)
        grads = jax.tree.map(lambda g, adv_g: g + ADV_WEIGHT * adv_g, grads, adv_grads)
    updates, opt_state = optimizer.update({"tables": grads, "weights": {}}, state.opt_state, state.trained)
    return optax.apply_updates(state.trained, updates), opt_state


def make_objective(model, adversarial, clean=None):
    clean = clean or objectives.pairwise(model=model)
    surface = surfaces.tables("user", "item")
    attack = fgsm.attack(epsilon=EPSILON)
    return apr.objective(clean=clean, attack=attack, surface=surface, adv_weight=ADV_WEIGHT) if adversarial else clean


def make_state(optimizer, tables):
    return train.init_state({"tables": tables, "weights": {}, "given": {}}, optimizer, jax.random.key(0))


def assert_close(tree, expected, tolerance=1e-6):
    """Equal structure, and leaves equal up to a tolerance, relative for numbers above 1."""
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), tree, expected)


@pytest.mark.parametrize("adversarial", [False, True], ids=["bpr", "apr"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_dense_step(name, adversarial):
    optimizer, tables = OPTIMIZERS[name], make_tables()
    model = mf.model(num_users=40, num_items=50, dimension=4)
    step = jax.jit(train.make_step(make_objective(model, adversarial), optimizer, reads=model.reads))
    dense = jax.jit(functools.partial(dense_step, optimizer, adversarial))
    state = make_state(optimizer, tables)
    for seed in (0, 4):  # the second with the optimiser's slots in use
        batch = make_batch(seed)
        expected = dense(state, batch)
        state, _ = step(state, {}, batch, jax.random.key(0))
        assert_close((state.trained, state.opt_state), expected)
    moved = jnp.any(state.trained["tables"]["user"] != tables["user"], axis=1)
    touched = np.isin(np.arange(40), [3, 39, 7, 0, 11])  # user 5 only where it does not count
    np.testing.assert_array_equal(moved, touched)


@pytest.mark.parametrize(
    ("num_users", "num_items", "compacted"), [(40, 50, {"user", "item"}), (10, 50, {"item"}), (40, 20, {"user"})]
)
def test_tables_no_larger_than_the_batch_stay_as_they_are(num_users, num_items, compacted):
    batch = {name: ids if name == "where" else ids % min(num_users, num_items) for name, ids in make_batch().items()}
    tables, model = make_tables(num_users, num_items), mf.model(num_users=num_users, num_items=num_items, dimension=4)
    assert model.reads is not None
    plan, relabelled = rows.compact(tables, batch, model.reads, alone)
    assert set(plan.ids) == compacted
    assert ("user" in compacted) == bool((relabelled["users"] != batch["users"]).any())
    optimizer = OPTIMIZERS["sgd"]
    step = jax.jit(train.make_step(make_objective(model, False), optimizer, reads=model.reads))
    state = make_state(optimizer, tables)
    trained, _ = jax.jit(functools.partial(dense_step, optimizer, False))(state, batch)
    assert_close(step(state, {}, batch, jax.random.key(0))[0].trained, trained)


SIZES = pytest.mark.parametrize("sizes", [(40, 50), (2560, 5120)], ids=["by last place", "sorted"])


@SIZES
def test_compact_gives_each_row_one_slot_that_holds_its_copy(sizes):
    tables, batch = make_tables(*sizes), make_batch()
    plan, relabelled = rows.compact(tables, batch, {"user": ("users",), "item": ("pos", "neg")}, alone)
    small = rows.take(tables, ["item", "user"], plan)  # leaves of a dict come in the order of its keys
    for name, column in (("user", "users"), ("item", "pos"), ("item", "neg")):
        np.testing.assert_array_equal(small[name][relabelled[column]], tables[name][batch[column]])
        slots = dict(zip(batch[column].tolist(), relabelled[column].tolist(), strict=True))
        assert len(set(slots.values())) == len(slots)
    # Item 2 stands among the positives and among the negatives.
    assert relabelled["pos"][1] == relabelled["pos"][5] == relabelled["neg"][0] == relabelled["neg"][1]


@SIZES
def test_slots_come_from_the_gathered_ids(sizes):
    """A device's own ids are a part of them, and a row must have one slot on all devices."""
    tables, batch, reads = {"user": make_tables(*sizes)["user"]}, make_batch(), {"user": ("users",)}
    plan, whole = rows.compact(tables, batch, reads, alone)
    part_plan, part = rows.compact(tables, {"users": batch["users"][:5]}, reads, lambda ids: batch["users"])
    np.testing.assert_array_equal(part["users"], whole["users"][:5])
    np.testing.assert_array_equal(part_plan.ids["user"], plan.ids["user"])


def test_spare_copies_are_never_written_back():
    table, slots = jnp.zeros((6, 2)), jnp.array([0, 0, 2], jnp.int32)
    plan = rows.Plan(ids={"t": jnp.array([5, 5, 1], jnp.int32)}, slots={"t": slots})
    written = rows.write_back([table], [jnp.array([[1.0, 2.0], [9.0, 9.0], [3.0, 4.0]])], ["t"], plan)
    np.testing.assert_array_equal(written[0], [[0, 0], [3, 4], [0, 0], [0, 0], [0, 0], [1, 2]])


@SIZES
def test_write_back_touches_the_rows_of_the_batch_alone(sizes):
    tables, batch = make_tables(*sizes), make_batch()
    plan, _ = rows.compact(tables, batch, {"user": ("users",)}, alone)
    tree, of = [tables["user"], tables["item"], jnp.int32(3)], ["user", None, None]
    small = rows.take(tree, of, plan)
    written = rows.write_back(tree, [small[0] + 1, small[1] * 2, jnp.int32(4)], of, plan)
    touched = np.isin(np.arange(sizes[0]), batch["users"])
    np.testing.assert_array_equal(written[0][touched], tables["user"][touched] + 1)
    np.testing.assert_array_equal(written[0][~touched], tables["user"][~touched])
    np.testing.assert_array_equal(written[1], tables["item"] * 2)
    assert written[2] == 4


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (optax.sgd(0.1), True),
        (optax.sgd(optax.linear_schedule(0.1, 0.0, 10)), True),
        (optax.adagrad(0.05, initial_accumulator_value=0.1), True),
        (optax.adagrad(0.05, initial_accumulator_value=0.0), True),
        (optax.sgd(0.1, momentum=0.9), False),
        (optax.adam(0.1), False),
        (optax.adamw(0.1), False),
        (optax.rmsprop(0.1), False),
        (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)), False),
    ],
)
def test_separable_is_true_of_optimizers_that_leave_untouched_rows_alone(optimizer, expected):
    assert rows.separable(optimizer) is expected


# Example by example.


def test_a_direct_step_is_the_general_step():
    model, params = make_layered()
    make = lambda model: objectives.pairwise(model=model)
    optimizer = optax.sgd(optax.linear_schedule(0.1, 0.0, 10))
    direct = jax.jit(train.make_direct_step(make, model, optimizer))
    general = jax.jit(train.make_step(make(model), optimizer))
    state = other = train.init_state(params, optimizer, jax.random.key(0))
    for seed in (0, 4):
        state, metrics = direct(state, {}, make_batch(seed), jax.random.key(0))
        other, expected = general(other, {}, make_batch(seed), jax.random.key(0))
        assert_close((state.trained, state.opt_state, metrics), (other.trained, other.opt_state, expected))


def test_steps_of_several_negatives_by_rows_are_the_dense_step():
    """Direct, and on the touched rows of tables large enough to be compacted."""
    model = biased_mf.model(num_users=60, num_items=70, dimension=3, init_scale=1.0)
    make = lambda model: objectives.listwise(model=model, l2=0.1)
    optimizer, params = optax.sgd(0.1), model.init(jax.random.key(0))
    neg = (
        jnp.asarray(np.random.default_rng(0).integers(0, 70, (10, 3)), jnp.int32).at[0, :2].set(1)
    )  # 1 is its positive
    batch = {**make_batch(), "neg": neg}
    steps = [
        train.make_step(make(model), optimizer),
        train.make_step(make(model), optimizer, reads=model.reads),
        train.make_direct_step(make, model, optimizer),
    ]
    state = train.init_state(params, optimizer, jax.random.key(0))
    dense, *others = (jax.jit(step)(state, {}, batch, jax.random.key(0)) for step in steps)
    assert (dense[0].trained["tables"]["item"] != params["tables"]["item"]).any(axis=1).sum() > 20
    for other in others:
        assert_close((other[0].trained, other[1]), (dense[0].trained, dense[1]), 1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adagrad(0.05),
        optax.adam(0.1),
        optax.chain(optax.clip(1e4), optax.sgd(0.1)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    ],
)
def test_a_direct_step_is_refused_where_updates_do_not_add_up(optimizer):
    model = mf.model(num_users=4, num_items=5, dimension=2)
    with pytest.raises(ValueError, match="add up"):
        train.make_direct_step(lambda model: objectives.pairwise(model=model), model, optimizer)


# In pieces.


def make_layered():
    """A model with weights beside its tables, and its params: score = user . (item @ mix)."""

    def score_rows(params, users, items):
        return jnp.sum(users * (items @ params["weights"]["mix"]), axis=-1)

    def score(params, users, items):
        return score_rows(params, params["tables"]["user"][users], params["tables"]["item"][items])

    mix = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)), jnp.float32)
    params = {"tables": make_tables(), "weights": {"mix": mix}, "given": {}}
    reads = {"user": ("users",), "item": ("pos", "neg")}
    score_all = lambda params, users: users
    return Model(init=lambda key: params, score=score, score_all=score_all, score_rows=score_rows, reads=reads), params


@pytest.mark.parametrize(("size", "adversarial"), [(4, False), (5, False), (10, False), (4, True)])
def test_an_objective_in_pieces_is_the_objective(size, adversarial):
    model, params = make_layered()
    pieced = rows.in_pieces(lambda model: objectives.pairwise(model=model), model, size=size)
    trained = {"tables": params["tables"], "weights": params["weights"]}

    def of_trained(objective, trained):
        return objective({**trained, "given": {}}, make_batch(), jax.random.key(0), alone)

    @jax.jit
    def evaluate(trained):
        objectives = (make_objective(model, adversarial, clean=pieced), make_objective(model, adversarial))
        results = [jax.value_and_grad(functools.partial(of_trained, x), has_aux=True)(trained) for x in objectives]
        return results, [of_trained(x, trained) for x in objectives]

    for in_pieces, whole in evaluate(trained):
        assert_close(in_pieces, whole, 1e-5)


def test_a_cotangent_scales_the_gradient_in_pieces():
    model, params = make_layered()
    pieced = rows.in_pieces(lambda model: objectives.pairwise(model=model), model, size=4)
    loss = lambda mix: pieced({**params, "weights": {"mix": mix}}, make_batch(), jax.random.key(0), alone)[0]
    mix = params["weights"]["mix"]
    np.testing.assert_allclose(jax.grad(lambda mix: -3 * loss(mix))(mix), -3 * jax.grad(loss)(mix), rtol=1e-6)


def test_a_model_that_cannot_score_rows_is_refused_in_pieces():
    model, _ = make_layered()
    with pytest.raises(ValueError, match="score_rows"):
        rows.in_pieces(lambda model: objectives.pairwise(model=model), dataclasses.replace(model, score_rows=None))


def test_a_column_that_two_tables_read_is_refused():
    reads = {"item": ("pos", "neg"), "popularity": ("neg",)}
    with pytest.raises(ValueError, match="one table"):
        rows.compact({"item": jnp.zeros((9, 2)), "popularity": jnp.zeros((9, 1))}, make_batch(), reads, lambda x: x)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_block_rms(0.01), optax.sgd(0.1)),
        optax.chain(optax.clip_by_block_rms(10.0), optax.sgd(0.1)),
        optax.chain(optax.scale_by_trust_ratio(), optax.sgd(0.1)),
    ],
)
def test_separable_is_false_where_a_row_depends_on_the_others(optimizer):
    assert not rows.separable(optimizer)


@pytest.mark.parametrize("shape", [(5, 64), (7,), (2, 3, 4), (0, 8)])
def test_sums_are_those_over_the_last_axis(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(rows.sums(jnp.asarray(x)), x.sum(axis=-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("users", "items"), [((5, 1), (1, 7)), ((5,), (5,)), ((5, 1), (5, 7)), ((1, 1), (1, 7)), ((5, 1), (1, 1))]
)
def test_products_are_sums_of_broadcast_products(users, items):
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(*users, 3)).astype(np.float32), rng.normal(size=(*items, 3)).astype(np.float32)
    found = rows.products(jnp.asarray(user), jnp.asarray(item))
    np.testing.assert_allclose(found, (user * item).sum(axis=-1), rtol=1e-5, atol=1e-6)


def test_products_of_all_users_with_all_items_are_of_matrices():
    """512 users on 1,024 items: 33 million numbers a pass, were they multiplied row by row."""
    user, item = jnp.zeros((5, 1, 3)), jnp.zeros((1, 7, 3))
    slope = jax.make_jaxpr(jax.grad(lambda user, item: rows.products(user, item).sum(), argnums=(0, 1)))(user, item)
    sizes = [np.prod(v.aval.shape) for equation in slope.jaxpr.eqns for v in equation.outvars]
    assert max(sizes) < 5 * 7 * 3
