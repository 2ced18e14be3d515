"""The laws of every attack, each attack found by its file.

An attack that needs what a victim does not offer (scores, labels) says "Expected an oracle with ..." and is not put
to that victim. One without a `norm` argument has its reported norms held against epsilon.
"""

import functools
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxrec import attacks, losses, norms, oracles
from jaxrec.types import Oracle

METHODS = {
    name: module.attack
    for name in (info.name for info in pkgutil.iter_modules(attacks.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.attacks.{name}"), "attack")
}
NORMS = {norm.name: norm for norm in (norms.L2, norms.LINF, norms.L1)}
VICTIMS = {"classifier": toys.classifier(), "mlp": toys.mlp(), "tables": toys.tables()}
CONTROLS = {"random_noise"}  # neither raise the loss nor keep rows still
SEARCHES = {"square"}  # from the one loss of whole tables they cannot tell which rows it ignores
STARTS = {"msap"}  # begin at a random point of every row
CHOOSY = {"jsma"}  # raise a target's score instead, and move only rows where two entries help it and hurt the others
SHORTER = {"cw": {"num_steps": 50}, "square": {"num_queries": 300}}  # where the defaults are long
EPSILON = 0.05
ANYWHERE = (-jnp.inf, jnp.inf)


def parameters(method):
    return inspect.signature(METHODS[method]).parameters


def cases():
    """Every norm on the linear classifier; the first on the MLP, and on the tables, where one loss stands for all."""
    for method in METHODS:
        choices = list(NORMS) if "norm" in parameters(method) else [None]
        yield from ((method, norm, "classifier") for norm in choices)
        yield method, choices[0], "mlp"
        yield method, choices[0], "tables"


every_attack = pytest.mark.parametrize("method", METHODS)
every_case = pytest.mark.parametrize(("method", "norm", "victim"), list(cases()))


def build(method, norm, epsilon):
    return METHODS[method](
        epsilon=epsilon, **SHORTER.get(method, {}), **({} if norm is None else {"norm": NORMS[norm]})
    )


def oracle_of(victim, **limits):
    it = VICTIMS[victim]
    return oracles.white_box(it.losses, scores=it.scores, labels=it.labels, **limits)


def default_norm(method):
    return "L2" if "norm" in parameters(method) else None


@functools.cache
def compiled(method, norm, victim):
    """(epsilon, where, box, key) -> (delta, info): one program for all the laws of a case."""

    @jax.jit
    def run(key, epsilon, where, box):
        return build(method, norm, epsilon)(key, oracle_of(victim, where=where, box=box), VICTIMS[victim].x)

    everywhere = jax.tree.map(lambda x: jnp.ones(x.shape, bool), VICTIMS[victim].x)

    def call(epsilon, *, where=everywhere, box=ANYWHERE, seed=0):
        try:
            return run(jax.random.key(seed), jnp.float32(epsilon), where, tuple(map(jnp.float32, box)))
        except ValueError as error:
            if "Expected an oracle with" not in str(error):
                raise
            pytest.skip(str(error))

    return call


@functools.cache
def losses_of(victim):
    it = VICTIMS[victim]
    at = jax.jit(lambda delta: it.losses(jax.random.key(9), jax.tree.map(jnp.add, it.x, delta)))
    return lambda delta=None: np.asarray(at(jax.tree.map(jnp.zeros_like, it.x) if delta is None else delta))


def leaves(*trees):
    """The arrays of trees of the same structure, side by side, on the host."""
    return zip(*([np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in trees), strict=True)


def assert_within(norm, delta, info, epsilon):
    for array, reported in leaves(delta, info["norms"]):
        assert np.isfinite(array).all()
        assert reported.shape == array.shape[:1]
        if norm is not None:
            order = {"L2": 2, "LINF": np.inf, "L1": 1}[norm]
            size = np.linalg.norm(array.reshape(len(array), -1).astype(float), ord=order, axis=1)
            np.testing.assert_allclose(reported, size, rtol=1e-5, atol=1e-7)
        assert reported.max() <= epsilon * (1 + 1e-5)


def test_the_folder_is_read():
    assert {"fgsm", "pgd", "random_noise"} <= set(METHODS)


@every_attack
def test_every_hyperparameter_but_epsilon_has_a_default(method):
    for name, parameter in parameters(method).items():
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert name == "epsilon" or parameter.default is not parameter.empty, name


@every_case
@pytest.mark.parametrize("epsilon", [1e-6, EPSILON, 3.0])
def test_every_row_stays_in_the_ball(method, norm, victim, epsilon):
    delta, info = compiled(method, norm, victim)(epsilon)
    assert jax.tree.structure(delta) == jax.tree.structure(VICTIMS[victim].x)
    assert_within(norm, delta, info, epsilon)
    assert max(array.max() for (array,) in leaves(info["norms"])) > 0


@every_case
def test_the_ascended_loss_rises(method, norm, victim):
    if method in CONTROLS | CHOOSY:
        pytest.skip("it does not ascend the loss")
    delta, _ = compiled(method, norm, victim)(EPSILON)
    clean, attacked = losses_of(victim)(), losses_of(victim)(delta)
    moves = np.ones(1, bool) if victim == "tables" else ~np.asarray(VICTIMS[victim].still)
    assert (attacked[moves] > clean[moves]).all()
    np.testing.assert_array_equal(attacked[~moves], clean[~moves])


@every_case
def test_epsilon_0_is_nothing_bit_for_bit(method, norm, victim):
    delta, _ = compiled(method, norm, victim)(0.0)
    for d, x in leaves(delta, VICTIMS[victim].x):
        assert (d == 0).all()
        assert (x + d).tobytes() == x.tobytes()


@every_case
def test_rows_without_a_gradient_stay_still(method, norm, victim):
    if method in CONTROLS | STARTS:
        pytest.skip("it moves every row")
    if method in SEARCHES and victim == "tables":
        pytest.skip("a search")
    delta, _ = compiled(method, norm, victim)(EPSILON)
    for d, still in leaves(delta, VICTIMS[victim].still):
        assert still.any()
        np.testing.assert_array_equal(d[still], 0)
        assert method in CHOOSY or (np.abs(d[~still]).reshape((~still).sum(), -1).max(axis=1) > 0).all()


@every_case
def test_the_mask_is_kept_bit_for_bit(method, norm, victim):
    draw = np.random.default_rng(4)
    where = jax.tree.map(lambda x: jnp.asarray(draw.random(x.shape) < 0.5), VICTIMS[victim].x)
    delta, info = compiled(method, norm, victim)(EPSILON, where=where)
    assert_within(norm, delta, info, EPSILON)
    for d, touched, x in leaves(delta, where, VICTIMS[victim].x):
        assert (x + d)[~touched].tobytes() == x[~touched].tobytes()
        assert method in CHOOSY or np.abs(d[touched]).max() > 0


@every_case
def test_the_box_is_kept(method, norm, victim):
    """Entries that are legal stay so; entries that are not are never moved further out."""
    low, high = np.float32(-0.7), np.float32(0.5)
    delta, info = compiled(method, norm, victim)(0.5, box=(low, high))
    assert_within(norm, delta, info, 0.5)
    for d, x in leaves(delta, VICTIMS[victim].x):
        assert (x + d >= np.minimum(low, x) - 1e-7).all()
        assert (x + d <= np.maximum(high, x) + 1e-7).all()
        assert np.abs(d).max() > 0


@every_case
def test_info_says_what_was_reached_and_what_it_cost(method, norm, victim):
    delta, info = compiled(method, norm, victim)(EPSILON)
    np.testing.assert_allclose(info["losses"], losses_of(victim)(delta), rtol=1e-5)
    assert jax.tree.structure(info["norms"]) == jax.tree.structure(VICTIMS[victim].x)
    for cost in ("gradient_evaluations", "queries"):
        assert jnp.shape(info[cost]) == ()
        assert int(info[cost]) >= 0


def count_calls(attack, victim):
    """Runs an attack, and counts when its oracle is asked (not when it is traced)."""
    it, counts = VICTIMS[victim], {"losses": 0, "scores": 0, "grad": 0}
    white_box = oracle_of(victim)

    def count(name):
        counts[name] += 1

    def counted(name):
        def ask(key, x):
            jax.debug.callback(lambda: count(name))
            return getattr(white_box, name)(key, x)

        return ask

    def counted_scores(key, x):
        """Each sum of scores that is differentiated counts as a gradient."""
        ask = jax.custom_vjp(lambda x: counted("scores")(key, x))

        def backward(pull, direction):
            jax.debug.callback(lambda _: count("grad"), direction)
            return pull(direction)

        ask.defvjp(lambda x: jax.vjp(lambda x: counted("scores")(key, x), x), backward)
        return ask(x)

    oracle = white_box._replace(losses=counted("losses"), grad=counted("grad"))
    if it.scores is not None:
        oracle = oracle._replace(scores=counted_scores)
    _, info = jax.jit(lambda key: attack(key, oracle, it.x))(jax.random.key(0))
    jax.effects_barrier()
    return counts, info


@every_attack
def test_the_cost_is_what_was_asked(method):
    counts, info = count_calls(build(method, default_norm(method), EPSILON), "classifier")
    assert counts["grad"] == int(info["gradient_evaluations"])
    assert counts["losses"] + counts["scores"] == int(info["queries"])


@every_attack
def test_jit_changes_nothing_and_neither_do_limits_that_allow_all(method):
    norm, x = default_norm(method), VICTIMS["classifier"].x
    before = np.asarray(x).tobytes()
    expected = compiled(method, norm, "classifier")(EPSILON)
    for actual, wanted in leaves(build(method, norm, EPSILON)(jax.random.key(0), oracle_of("classifier"), x), expected):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)
    assert np.asarray(x).tobytes() == before


@every_attack
def test_vmap_over_epsilon_is_a_loop(method):
    norm, victim = default_norm(method), "tables"
    compiled(method, norm, victim)(0.0)  # skips where the attack does not apply
    run = lambda epsilon: build(method, norm, epsilon)(jax.random.key(0), oracle_of(victim), VICTIMS[victim].x)[0]
    epsilons = [0.0, 0.02, 0.3]
    together = jax.jit(jax.vmap(run))(jnp.array(epsilons))
    for place, epsilon in enumerate(epsilons):
        alone, _ = compiled(method, norm, victim)(epsilon)
        for actual, wanted in leaves(together, alone):
            np.testing.assert_allclose(actual[place], wanted, rtol=1e-5, atol=1e-6)


@every_attack
def test_a_targeted_attack_is_the_same_attack_on_the_negated_loss_of_the_target(method):
    """It brings every image closer to the class it shall be taken for."""
    if method in CONTROLS:
        pytest.skip("a control")
    it, targets = VICTIMS["classifier"], jnp.array([1, 2, 0, 2, 0])
    towards = lambda key, x: -losses.softmax(it.scores(key, x), jax.nn.one_hot(targets, 3))
    attack = build(method, default_norm(method), EPSILON)
    try:
        delta, _ = jax.jit(lambda x: attack(jax.random.key(0), oracles.white_box(towards), x))(it.x)
    except ValueError as error:
        if "Expected an oracle with" not in str(error):
            raise
        pytest.skip(str(error))
    probability = lambda x: np.asarray(jax.nn.softmax(it.scores(None, x)))[np.arange(5), targets]
    assert (probability(it.x + delta) > probability(it.x))[~np.asarray(it.still)].all()


@every_attack
def test_whole_arrays_can_share_a_ball(method):
    if "norm" not in parameters(method):
        pytest.skip("it has no norm to choose")
    it = VICTIMS["tables"]
    attack = METHODS[method](epsilon=EPSILON, norm=norms.whole(norms.L2))
    delta, info = jax.jit(lambda x: attack(jax.random.key(0), oracle_of("tables"), x))(it.x)
    for array, reported in leaves(delta, info["norms"]):
        np.testing.assert_allclose(reported, [np.linalg.norm(array)], rtol=1e-5)
        assert 0 < reported[0] <= EPSILON * (1 + 1e-5)
    assert method in CONTROLS or losses_of("tables")(delta) > losses_of("tables")()


@every_attack
@pytest.mark.parametrize("epsilon", [-0.5, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_radius_is_refused_by_name(method, epsilon):
    if parameters(method)["epsilon"].default == epsilon:
        pytest.skip("the attack looks for the smallest perturbation, of any size")
    for value in (epsilon, jnp.float32(epsilon)):
        with pytest.raises(ValueError, match=rf"epsilon={epsilon}"):
            METHODS[method](epsilon=value)


@every_attack
def test_no_gradient_flows_through_a_perturbation(method):
    it = VICTIMS["classifier"]

    def moved(x):
        delta, _ = build(method, default_norm(method), EPSILON)(jax.random.key(0), oracle_of("classifier"), x)
        return jnp.sum(x + delta)

    np.testing.assert_array_equal(jax.jit(jax.grad(moved))(it.x), jnp.ones_like(it.x))


@every_attack
def test_an_attack_that_needs_a_gradient_says_so(method):
    it = VICTIMS["classifier"]
    blind = Oracle(it.losses, scores=it.scores, labels=it.labels)
    attack = build(method, default_norm(method), EPSILON)
    trace = lambda: jax.eval_shape(lambda x: attack(jax.random.key(0), blind, x), it.x)
    asks = int(compiled(method, default_norm(method), "classifier")(EPSILON)[1]["gradient_evaluations"])
    if asks:
        with pytest.raises(ValueError, match="oracle with a gradient"):
            trace()
    else:
        trace()
