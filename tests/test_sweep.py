"""Each model of a sweep takes the steps that it would take alone."""

import jax
import numpy as np
import optax
import pytest
import two_processes

from jaxrec import objectives, sampling, surfaces, sweep, train
from jaxrec.attacks import fgsm
from jaxrec.defences import apr
from jaxrec.types import InputError

MODEL, DATA = two_processes.MODEL, two_processes.make_data()
SETTINGS = [(0, 0.2, 0.05, 1), (1, 0.0, 0.05, 0), (2, 0.5, 0.2, 1)]  # seed, epsilon, learning rate, order
NUM_STEPS = 21
RUNNING = np.ones(3, bool)


def optimizer(learning_rate):
    return optax.inject_hyperparams(optax.adagrad)(learning_rate=learning_rate, initial_accumulator_value=0.1)


def make(hyper):
    attack, surface = fgsm.attack(epsilon=hyper["epsilon"]), surfaces.tables("user", "item")
    objective = apr.objective(clean=objectives.pairwise(model=MODEL), attack=attack, surface=surface)
    return train.make_step(objective, optimizer(0.05), reads=MODEL.reads)


def state_of(seed, learning_rate):
    init_key, key = jax.random.split(jax.random.key(seed))
    return train.init_state(MODEL.init(init_key), optimizer(learning_rate), key)


def models():
    states = [state_of(seed, rate) for seed, _, rate, _ in SETTINGS]
    hyper = [{"epsilon": epsilon} for _, epsilon, _, _ in SETTINGS]
    return sweep.stack(states, hyper=hyper, orders=[order for *_, order in SETTINGS])


def batches(num_steps):
    epochs = [sampling.shuffled(DATA, seed=seed, epoch=0) for seed in (7, 8)]
    cut = [sampling.batches(DATA, rows, batch_size=10, first=0, num=num_steps) for rows in epochs]
    return {name: np.stack([each[name] for each in cut]) for name in cut[0]}


def trained(num_steps=NUM_STEPS, running=RUNNING, **parts):
    trainer = sweep.parallel(make, num_models=3, **parts)
    state, metrics = trainer.run(trainer.put(models()), {}, sampling.seen(DATA), batches(num_steps), running)
    return trainer.get(state), jax.device_get(metrics)


def alone(number, num_steps=NUM_STEPS):
    seed, epsilon, rate, order = SETTINGS[number]
    trainer = train.parallel(lambda devices: make({"epsilon": epsilon}))
    own = {name: column[order] for name, column in batches(num_steps).items()}
    state, metrics = trainer.run(trainer.put(state_of(seed, rate)), {}, sampling.seen(DATA), own)
    return trainer.get(state), jax.device_get(metrics)


def values(tree):
    is_key = lambda leaf: jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return [np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(tree, expected, **tolerance):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for found, wanted in zip(values(tree), values(expected), strict=True):
        if tolerance:
            np.testing.assert_allclose(found, wanted, **tolerance)
        else:
            np.testing.assert_array_equal(found, wanted)


@pytest.fixture(scope="module")
def in_turn():
    return trained(each=sweep.in_turn)


@pytest.mark.parametrize("number", range(3))
def test_in_turn_each_model_is_bitwise_what_it_is_alone(in_turn, number):
    state, metrics = in_turn
    assert_same((sweep.model(state.states, number), sweep.model(metrics, number)), alone(number))


def test_the_settings_make_a_difference(in_turn):
    tables = in_turn[0].states.trained["tables"]["user"]
    assert min(np.abs(tables[i] - tables[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2


def test_at_once_a_step_is_that_of_each_model_alone():
    state, metrics = trained(1, each=sweep.at_once)
    for number in range(3):
        found = sweep.model(state.states, number), sweep.model(metrics, number)
        assert_same(found, alone(number, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_devices", [2, 4])
def test_devices_share_the_models_also_where_they_do_not_divide_them(in_turn, num_devices):
    found = trained(each=sweep.in_turn, num_devices=num_devices)
    assert_same(found, in_turn, rtol=1e-5, atol=1e-6)
    assert found[0].order.tolist() == [1, 0, 1]


@pytest.mark.parametrize("each", [sweep.in_turn, sweep.at_once])
def test_a_model_that_has_stopped_stays_and_the_others_go_on(each):
    state, metrics = trained(1, np.array([True, False, True]), each=each)
    assert_same(sweep.model(state.states, 1), sweep.model(jax.device_get(models().states), 1))
    assert_same(sweep.model(state.states, 2), alone(2, 1)[0], rtol=1e-6, atol=1e-6)
    assert (metrics["examples"][:, 0] == [10, 0, 10]).all()


def test_what_a_model_takes_is_counted():
    counted = sweep.bytes_of(models())
    tables = 4 * (30 + 40) * 4
    assert counted["all"] == 3 * counted["a model"]
    assert 0 <= counted["a model"] - 2 * tables < 32  # Adagrad keeps as much again, and a few numbers


def test_wrong_numbers_are_refused():
    states = [state_of(0, 0.1)] * 2
    with pytest.raises(ValueError, match="got 2 states, 1 and 2"):
        sweep.stack(states, hyper=[{"epsilon": 1.0}])
    with pytest.raises(ValueError, match="same names of all models"):
        sweep.stack(states, hyper=[{"epsilon": 1.0}, {"weight": 1.0}])
    with pytest.raises(InputError, match="devices between 1 and 4, got 5"):
        sweep.parallel(make, num_models=2, num_devices=5)
    with pytest.raises(ValueError, match="num_models=0"):
        sweep.parallel(make, num_models=0)
