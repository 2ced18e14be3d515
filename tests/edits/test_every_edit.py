"""The laws of every attack on item sequences, each attack found by its file."""

import functools
import importlib
import inspect
import itertools
import pkgutil
from collections import Counter

import edit_toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edit_toys import HISTORIES, LENGTH, NUM_ITEMS

from jaxrec import edits
from jaxrec.sequence_edits import Kind
from jaxrec.types import EditAttack, EditOracle

METHODS = {
    name: module.attack
    for name in (info.name for info in pkgutil.iter_modules(edits.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.edits.{name}"), "attack")
}
CONTROLS = {"random_edits"}  # do not look at the loss
VICTIM = edit_toys.ordered()
KINDS = {**{kind.name: (kind,) for kind in Kind}, "all": tuple(Kind)}
EVERYWHERE, EVERYTHING = jnp.ones(LENGTH, bool), jnp.ones(NUM_ITEMS, bool)
PADDED = [name for name in HISTORIES if name != "with a gap"]

every_attack = pytest.mark.parametrize("method", METHODS)
searching = pytest.mark.parametrize("method", sorted(METHODS.keys() - CONTROLS))
every_case = pytest.mark.parametrize(("method", "kinds"), list(itertools.product(METHODS, KINDS)))


def parameters(method):
    return inspect.signature(METHODS[method]).parameters


@functools.cache
def compiled(method, kinds):
    """(ids, num_edits, where, items, seed) -> (ids, info): one program for all the laws of a case."""

    @jax.jit
    def run(key, ids, num_edits, where, items):
        attack = METHODS[method](num_edits=num_edits, kinds=KINDS[kinds])
        return attack(key, VICTIM.oracle(where=where, items=items), ids)

    def call(ids, num_edits, *, where=EVERYWHERE, items=EVERYTHING, seed=0):
        ids = jnp.asarray(ids, jnp.int32)
        return run(jax.random.key(seed), ids, jnp.int32(num_edits), jnp.asarray(where), jnp.asarray(items))

    return call


@jax.jit
def losses_of(ids):
    return VICTIM.oracle().losses(ids)


def entries(ids):
    return [item for item in np.asarray(ids).tolist() if item >= 0]


def test_the_folder_is_read():
    assert {"greedy", "gradient_guided", "random_edits"} <= set(METHODS)


@every_attack
def test_it_has_the_shape_and_every_hyperparameter_but_num_edits_has_a_default(method):
    assert isinstance(METHODS[method](num_edits=1), EditAttack)
    for name, parameter in parameters(method).items():
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert name == "num_edits" or parameter.default is not parameter.empty, name


@every_case
@pytest.mark.parametrize("name", HISTORIES)
def test_what_comes_out_is_a_history(method, kinds, name):
    before = np.array(HISTORIES[name], np.int32)
    after, _ = compiled(method, kinds)(before, 3)
    after = np.asarray(after)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert ((after >= -1) & (after < NUM_ITEMS)).all()
    if name != "with a gap":
        assert after.tolist() == edit_toys.padded(entries(after))
    if entries(before):
        assert entries(after)
    if kinds == "REPLACE":
        np.testing.assert_array_equal(after == -1, before == -1)


@every_case
@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("num_edits", [1, 2, 4])
def test_at_most_num_edits_of_the_allowed_kinds_are_made(method, kinds, name, num_edits):
    before = entries(HISTORIES[name])
    after, info = compiled(method, kinds)(HISTORIES[name], num_edits)
    after, made = entries(after), int(info["edits"])
    assert 0 <= made <= num_edits
    # An insertion can push the oldest entries out of the window; then the window ended up full, or was cut later.
    pushed_out = range(made + 1) if Kind.INSERT in KINDS[kinds] and len(before) + made > LENGTH else [0]
    assert min(edit_toys.distance(before[num:], after, KINDS[kinds]) for num in pushed_out) <= made
    if made == 1 or method not in CONTROLS:
        assert (after == before) == (made == 0)


@every_case
def test_no_edits_are_nothing_bit_for_bit(method, kinds):
    for name in HISTORIES:
        before = np.array(HISTORIES[name], np.int32)
        after, info = compiled(method, kinds)(before, 0)
        assert np.asarray(after).tobytes() == before.tobytes()
        assert (int(info["edits"]), int(info["gradient_evaluations"]), int(info["queries"])) == (0, 0, 1)


@every_case
def test_the_loss_never_ends_below_the_clean_one_and_more_edits_never_lower_it(method, kinds):
    if method in CONTROLS:
        pytest.skip("a control")
    rose = 0
    for name in HISTORIES:
        reached = [float(losses_of(edit_toys.history(name)))]
        for num_edits in (1, 2, 4):
            after, info = compiled(method, kinds)(HISTORIES[name], num_edits)
            reached.append(float(losses_of(after)))
            assert (reached[-1] > reached[0]) == (int(info["edits"]) > 0)
        assert (np.diff(reached) >= 0).all()
        rose += reached[-1] > reached[0]
    assert rose >= (3 if kinds == "DELETE" else 5)


@every_case
def test_info_says_what_was_reached_and_what_it_cost(method, kinds):
    for name in HISTORIES:
        after, info = compiled(method, kinds)(HISTORIES[name], 2)
        np.testing.assert_allclose(info["losses"], losses_of(after), rtol=1e-5)
        assert set(info) == {"losses", "edits", "gradient_evaluations", "queries"}
        assert all(value == () for value in map(jnp.shape, info.values()))
        assert int(info["queries"]) >= 1


@every_case
def test_protected_entries_stay(method, kinds):
    """Replacing leaves their places bit-equal; insertions and deletions move them, in order, and push the oldest out.

    The protected items cannot be put in, so one that is there afterwards was there before.
    """
    draw = np.random.default_rng(5)
    for name in ("padded", "full"):
        before = np.array(HISTORIES[name])
        for _ in range(4):
            where = draw.random(LENGTH) < 0.5
            protected = [item for item in before[~where].tolist() if item >= 0]
            items = ~np.isin(np.arange(NUM_ITEMS), protected)
            after, info = compiled(method, kinds)(before, 3, where=where, items=items)
            after = np.asarray(after)
            kept = [item for item in after.tolist() if item in protected]
            pushed_out = len(protected) - len(kept)
            assert kept == protected[pushed_out:]
            too_many = int(info["edits"]) - (before == -1).sum() if Kind.INSERT in KINDS[kinds] else 0
            assert pushed_out <= max(too_many, 0)
            if kinds == "REPLACE":
                np.testing.assert_array_equal(after[~where], before[~where])


@every_case
def test_where_nothing_may_be_touched_nothing_is(method, kinds):
    nowhere = ~np.asarray(EVERYWHERE)
    for name in HISTORIES:
        before = np.array(HISTORIES[name], np.int32)
        after, info = compiled(method, kinds)(before, 3, where=nowhere)
        assert np.asarray(after).tobytes() == before.tobytes()
        assert int(info["edits"]) == 0


@every_case
def test_forbidden_items_are_never_put_in(method, kinds):
    for seed, name in enumerate(HISTORIES):
        items = np.random.default_rng(seed).random(NUM_ITEMS) < 0.4
        after, _ = compiled(method, kinds)(HISTORIES[name], 4, items=items, seed=seed)
        put_in = Counter(entries(after)) - Counter(entries(HISTORIES[name]))
        assert all(items[item] for item in put_in)
        after, info = compiled(method, kinds)(HISTORIES[name], 4, items=np.zeros(NUM_ITEMS, bool), seed=seed)
        assert not Counter(entries(after)) - Counter(entries(HISTORIES[name]))
        assert Kind.DELETE in KINDS[kinds] or int(info["edits"]) == 0


@every_attack
def test_a_key_decides_all(method):
    run = compiled(method, "all")
    assert run(HISTORIES["full"], 3, seed=1)[0].tolist() == run(HISTORIES["full"], 3, seed=1)[0].tolist()


@every_attack
def test_jit_changes_nothing_and_neither_do_limits_that_allow_all(method):
    ids = edit_toys.history("padded")
    attack = METHODS[method](num_edits=2, kinds=(Kind.REPLACE,))
    after, info = attack(jax.random.key(0), VICTIM.oracle(), ids)
    expected, expected_info = compiled(method, "REPLACE")(ids, 2)
    assert after.tolist() == expected.tolist()
    for name, value in expected_info.items():
        np.testing.assert_allclose(info[name], value, rtol=1e-5)
    assert ids.tolist() == HISTORIES["padded"]


@every_attack
def test_a_batch_by_vmap_is_a_loop(method):
    """Over histories and numbers of edits, which end their searches at different steps."""
    batch, num_edits = jnp.array([HISTORIES[name] for name in HISTORIES], jnp.int32), jnp.arange(len(HISTORIES))

    def run(ids, num_edits):
        return METHODS[method](num_edits=num_edits)(jax.random.key(0), VICTIM.oracle(), ids)

    together, info = jax.jit(jax.vmap(run))(batch, num_edits)
    assert len(set(np.asarray(info["edits"]).tolist())) > 1
    for place, ids in enumerate(batch):
        after, alone = compiled(method, "all")(ids, num_edits[place])
        assert together[place].tolist() == after.tolist()
        for name, value in alone.items():
            np.testing.assert_allclose(np.broadcast_to(info[name], len(batch))[place], value, rtol=1e-5)


@every_attack
@pytest.mark.parametrize("num_edits", [-1, jnp.int32(-2), jnp.float32(1.5), jnp.float32(float("nan")), True])
def test_a_number_of_edits_that_is_none_is_refused_by_name(method, num_edits):
    with pytest.raises(ValueError, match=rf"num_edits >= 0, got num_edits={num_edits}"):
        METHODS[method](num_edits=num_edits)


@every_attack
@pytest.mark.parametrize("kinds", [(), (Kind.DELETE, Kind.DELETE)])
def test_kinds_that_are_none_or_come_twice_are_refused(method, kinds):
    with pytest.raises(ValueError, match="one or more different kinds"):
        METHODS[method](num_edits=1, kinds=kinds)


@every_attack
def test_no_gradient_flows_through_an_attack(method):
    """A defence differentiates the loss of the edited history by the parameters, and not the search."""
    ids = edit_toys.history("full")

    def loss(scale, attacked):
        oracle = VICTIM._replace(embed=lambda ids: scale * VICTIM.embed(ids)).oracle()
        if not attacked:
            return oracle.losses(edited), jnp.float32(0)
        after, info = METHODS[method](num_edits=2)(jax.random.key(0), oracle, ids)
        return oracle.losses(after), info["losses"]

    edited, _ = compiled(method, "all")(ids, 2)
    through, reported = jax.jit(jax.jacrev(functools.partial(loss, attacked=True)))(1.0)
    np.testing.assert_allclose(through, jax.grad(lambda scale: loss(scale, attacked=False)[0])(1.0), rtol=1e-5)
    assert abs(float(through)) > 1e-3
    assert float(reported) == 0


@every_attack
def test_an_attack_that_needs_a_gradient_says_so(method):
    blind = EditOracle(VICTIM.oracle().losses, NUM_ITEMS)
    attack = lambda: METHODS[method](num_edits=1)(jax.random.key(0), blind, edit_toys.history("full"))
    if int(compiled(method, "all")(HISTORIES["full"], 1)[1]["gradient_evaluations"]):
        with pytest.raises(ValueError, match="oracle with a gradient"):
            attack()
    else:
        attack()


@searching
def test_a_loss_that_is_not_a_number_is_never_taken(method):
    def losses(ids):
        count = jnp.sum(ids == 6, axis=-1)
        return jnp.where(count > 0, jnp.nan, jnp.sum(ids, axis=-1) * 1.0)

    oracle = VICTIM.oracle()._replace(losses=losses)
    after, info = METHODS[method](num_edits=2, kinds=(Kind.REPLACE,))(
        jax.random.key(0), oracle, edit_toys.history("padded")
    )
    assert 6 not in after.tolist()
    assert int(info["edits"]) > 0
    assert float(info["losses"]) == sum(after.tolist())
