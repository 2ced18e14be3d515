"""Filters of texts: scikit-learn's logits, normalised rows, FGM on the rows of each text, and edits that are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.linear_model
import texts_toy

from jaxrec import classifier, sampling, sequence_edits, text_classifier, texts, train
from jaxrec.attacks import fgsm
from jaxrec.edits import gradient_guided

KEY = jax.random.key(0)
CORPUS = texts.corpus(texts_toy.draw(), seed=0, max_words=6, num_words=18, room=2)
LINEAR = text_classifier.linear(strengths=(0.1,))
NETWORK = text_classifier.averaging(dimension=4, hidden=3, dropout=0.0)
guided = lambda num_edits: gradient_guided.attack(num_edits=num_edits, num_candidates=1)


@pytest.fixture(scope="module")
def fitted():
    return LINEAR.init(CORPUS, KEY)


@pytest.fixture(scope="module")
def params():
    return NETWORK.init(CORPUS, KEY)


def batch(num):
    rows = jnp.arange(num)
    return {"users": rows, "pos": jnp.asarray(CORPUS.train.labels[:num]), "where": rows < num - 1}


def test_linear_logits_are_those_of_scikit_learn(fitted):
    counts = lambda part: np.stack([np.bincount(row[row >= 0], minlength=18) for row in part.ids]) * CORPUS.idf
    regression = sklearn.linear_model.LogisticRegression(C=0.1).fit(counts(CORPUS.train), CORPUS.train.labels)
    expected = regression.decision_function(counts(CORPUS.test))
    np.testing.assert_allclose(text_classifier.scores(LINEAR, fitted, CORPUS.test.ids), expected, atol=1e-3)


def test_no_single_edit_gains_more_on_the_linear_filter_and_few_texts_are_as_many(fitted):
    """Seventeen texts are two chunks, the second filled up with copies of the last one."""
    ids = CORPUS.train.ids[:17]
    edited, info = text_classifier.editor(LINEAR, guided)(fitted, ids, 1, KEY)
    every = sequence_edits.every_edit(tuple(sequence_edits.Kind), ids.shape[1], jnp.arange(18))
    on = text_classifier.oracle(LINEAR, fitted)

    @jax.jit
    def best(ids):
        history = sequence_edits.start(on, ids)
        losses = on.losses(jax.vmap(sequence_edits.apply, (None, 0))(history, every).ids)
        return jnp.max(jnp.where(sequence_edits.allowed(on, history, every), losses, -jnp.inf))

    reached = -text_classifier.scores(LINEAR, fitted, edited)
    np.testing.assert_allclose(reached, [best(jnp.asarray(row)) for row in ids], atol=1e-5)
    np.testing.assert_allclose(info["losses"], reached, atol=1e-5)
    assert np.all(reached > -text_classifier.scores(LINEAR, fitted, ids))
    assert info["edits"].tolist() == [1] * 17
    untouched, info = text_classifier.editor(LINEAR, guided)(fitted, ids, 0, KEY)
    np.testing.assert_array_equal(untouched, ids)
    assert not info["edits"].any()


def test_rows_have_mean_0_and_variance_1_over_the_words_of_the_training_texts(params):
    moved = {**params, "tables": {"word": 3 * params["tables"]["word"] + 5}}
    known = CORPUS.train.ids[CORPUS.train.ids >= 0]
    rows = np.asarray(NETWORK.embed(moved, jnp.asarray(known)))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(rows, NETWORK.embed(params, jnp.asarray(known)), atol=1e-4)
    assert not np.any(NETWORK.embed(params, jnp.array([-1])))


def test_what_stands_in_empty_places_and_the_order_of_words_do_not_count(params):
    ids = CORPUS.test.ids[:1]
    rows, present = NETWORK.embed(params, jnp.asarray(ids)), jnp.asarray(ids >= 0)
    value = NETWORK.logits(params, rows, present, None)
    np.testing.assert_allclose(NETWORK.logits(params, jnp.where(present[..., None], rows, 9), present, None), value)
    np.testing.assert_allclose(NETWORK.logits(params, rows[:, ::-1], present[:, ::-1], None), value, rtol=1e-5)
    empty = jnp.full_like(jnp.asarray(ids), -1)
    assert np.isfinite(text_classifier.scores(NETWORK, params, np.asarray(empty))).all()


def test_a_text_is_one_vector_in_the_ball_and_the_loss_there_is_added(params):
    """The mean over three texts of four, the last of which does not count, written out text by text."""
    epsilon, weight = 0.7, 0.5
    attack = fgsm.attack(epsilon=epsilon)
    against = text_classifier.objective(classifier=NETWORK, attack=attack, adv_weight=weight)
    total, metrics = jax.jit(lambda params: against(params, batch(4), KEY, lambda tree: tree))(params)

    def loss(rows, label, present):
        logit = NETWORK.logits(params, rows, present, None)
        return jax.nn.softplus(logit) - label * logit

    clean = attacked = 0.0
    for ids, label in zip(CORPUS.train.ids[:3], CORPUS.train.labels[:3].tolist(), strict=True):
        rows, present = NETWORK.embed(params, jnp.asarray(ids)), jnp.asarray(ids >= 0)
        grad = jax.grad(loss)(rows, label, present)
        clean += float(loss(rows, label, present))
        attacked += float(loss(rows + epsilon * grad / jnp.sqrt(jnp.sum(grad**2)), label, present))
    assert attacked > clean
    np.testing.assert_allclose(metrics["loss"], clean, rtol=1e-5)
    np.testing.assert_allclose(metrics["adv_loss"], attacked, rtol=1e-5)
    np.testing.assert_allclose(total, (clean + weight * attacked) / 3, rtol=1e-5)


def test_without_weight_the_gradient_is_the_clean_one_and_it_reaches_the_table(params):
    make = lambda **settings: text_classifier.objective(classifier=NETWORK, **settings)
    gradient = lambda objective: jax.jit(
        jax.grad(lambda tables: objective({**params, "tables": tables}, batch(4), KEY, lambda tree: tree)[0])
    )(params["tables"])["word"]
    clean = gradient(make())
    assert np.any(clean != 0)
    unweighted = gradient(make(attack=fgsm.attack(epsilon=1.0), adv_weight=0.0))
    np.testing.assert_allclose(unweighted, clean, rtol=1e-4, atol=1e-7)
    both = gradient(make(attack=fgsm.attack(epsilon=0.0)))
    np.testing.assert_allclose(both, 2 * clean, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2])
def test_steps_on_devices_are_steps_on_one(params, count):
    """With SGD, on a batch whose last place is empty; one device against the gradient itself."""
    objective = text_classifier.objective(classifier=NETWORK, attack=fgsm.attack(epsilon=1.0))
    optimizer = optax.sgd(0.5)
    make = lambda devices: train.make_step(objective, optimizer, devices=devices)
    trainer = train.parallel(make, num_devices=count, draw=classifier.no_negatives)
    state = train.init_state(params, optimizer, KEY)
    batches = {name: np.asarray(column)[None] for name, column in batch(6).items()}
    seen = sampling.seen(classifier.interactions(CORPUS.train.labels, num_classes=2))
    after = trainer.get(trainer.run(trainer.put(state), params["given"], seen, batches)[0])
    start = {"tables": params["tables"], "weights": params["weights"]}
    total = lambda trained: objective({**params, **trained}, batch(6), KEY, lambda tree: tree)[0]
    grad = jax.jit(jax.grad(total))(start)
    for ours, old, slope in zip(*map(jax.tree.leaves, (after.trained, start, grad)), strict=True):
        np.testing.assert_allclose(ours, old - 0.5 * slope, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"dimension": 0}, {"hidden": 0}, {"dropout": 1.0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"Expected {name}"):
        text_classifier.averaging(**wrong)
