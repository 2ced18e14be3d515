"""Laws of the classifier: its logits, what it is trained on, and who attacks it."""

import functools
import math

import images_toy
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import classifier, norms, sampling, train
from jaxrec.attacks import pgd, random_noise

MODEL = classifier.mlp(num_pixels=16, hidden=(5,), num_classes=4)
IMAGES, LABELS = images_toy.draw(6, seed=0)
ASCENT = pgd.attack(epsilon=0.1, norm=norms.LINF, num_steps=4, step_size=0.05)
WHERE = np.array([True, True, True, True, True, False])
BATCH = {"users": jnp.arange(6), "pos": jnp.asarray(LABELS.astype(np.int32)), "where": jnp.asarray(WHERE)}


@pytest.fixture(scope="module")
def params():
    return classifier.init(MODEL, IMAGES, jax.random.key(0))


def by_hand(weights, x):
    """Logits, by NumPy."""
    first, second = weights["Dense_0"], weights["Dense_1"]
    return np.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]


def value_and_grad(params, **parts):
    objective = classifier.objective(classifier=MODEL, **parts)

    @jax.jit
    def of_weights(weights):
        return objective({**params, "weights": weights}, BATCH, jax.random.key(1), lambda tree: tree)

    return jax.value_and_grad(of_weights, has_aux=True)(params["weights"])


def test_the_loss_is_the_mean_cross_entropy_of_the_images_that_count(params):
    (loss, metrics), _ = value_and_grad(params)
    logits = by_hand(jax.device_get(params["weights"]), IMAGES.reshape(6, 16) / 255)[:5]
    expected = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, LABELS, strict=False)]
    assert float(loss) == pytest.approx(sum(expected) / 5, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(sum(expected), rel=1e-5)
    assert (int(metrics["examples"]), int(metrics["accuracy"])) == (5, int((logits.argmax(1) == LABELS[:5]).sum()))


def test_an_attack_adds_the_loss_of_what_it_found(params):
    (clean, _), clean_grad = value_and_grad(params)
    (loss, metrics), _ = value_and_grad(params, attack=ASCENT, adv_weight=2.0)
    assert metrics["adv_loss"] > metrics["loss"] + 0.1
    assert float(loss) == pytest.approx(float(metrics["loss"] + 2 * metrics["adv_loss"]) / 5, rel=1e-5)
    (nothing, metrics), _ = value_and_grad(params, attack=random_noise.attack(epsilon=0.0, norm=norms.LINF))
    assert float(metrics["adv_loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    assert float(nothing) == pytest.approx(2 * float(clean), rel=1e-6)
    _, grad = value_and_grad(params, attack=ASCENT, adv_weight=0.0)
    for ours, expected in zip(jax.tree.leaves(grad), jax.tree.leaves(clean_grad), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_no_gradient_goes_through_the_perturbation(params):
    """The gradient is that of the loss at attacked images which are constants."""
    x = classifier.pixels(params["given"]["images"])
    oracle = classifier.oracle(MODEL, params["weights"], x, BATCH["pos"])
    delta, _ = jax.jit(lambda: ASCENT(jax.random.key(1), oracle, x))()

    def fixed(weights):
        log_likelihood = lambda x: jax.nn.log_softmax(MODEL.logits(weights, x))[jnp.arange(5), BATCH["pos"][:5]]
        return -jnp.mean(log_likelihood(x[:5])) - jnp.mean(log_likelihood((x + delta)[:5]))

    _, grad = value_and_grad(params, attack=ASCENT)
    expected = jax.jit(jax.grad(fixed))(params["weights"])
    for ours, theirs in zip(jax.tree.leaves(grad), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_evaluation_is_of_each_image_alone_whatever_the_chunks(params):
    evaluate = lambda num, chunk_size: classifier.evaluator(MODEL, ASCENT, chunk_size=chunk_size)(
        params["weights"], IMAGES[:num], LABELS[:num], jax.random.key(2)
    )
    whole, parts = evaluate(6, 6), evaluate(6, 3)
    for ours, expected in zip(parts[:4], whole[:4], strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert (whole.linf <= 0.1 + 1e-6).all()
    assert whole.linf.max() > 0.09
    assert (whole.gradient_evaluations, whole.queries) == (4, 1)


def test_who_is_wrong_without_an_attack_is_not_robust(params):
    """An attack that helps an image does not make it right: delta = 0 is legal too."""
    weights = params["weights"]
    right = classifier.correct(MODEL, weights, IMAGES, LABELS)
    expected = by_hand(jax.device_get(weights), IMAGES.reshape(6, 16) / 255).argmax(1)
    np.testing.assert_array_equal(right, expected == LABELS)
    wrong_labels = ((expected + 1) % 4).astype(np.uint8)

    def helping(key, oracle, x):
        descent = oracle._replace(grad=lambda key, x: -oracle.grad(key, x))
        return pgd.attack(epsilon=1.0, norm=norms.LINF, num_steps=20, step_size=0.2)(key, descent, x)

    attacked = classifier.evaluator(MODEL, helping)(weights, IMAGES, wrong_labels, jax.random.key(0))
    x = classifier.pixels(jnp.asarray(IMAGES.reshape(6, 16)))
    oracle = classifier.oracle(MODEL, weights, x, jnp.asarray(wrong_labels))
    delta, _ = jax.jit(lambda: helping(jax.random.key(0), oracle, x))()
    assert (MODEL.logits(weights, x + delta).argmax(1) == wrong_labels).any(), "else nothing was tested"
    assert not attacked.correct.any()


@pytest.mark.parametrize("count", [1, 2])
def test_steps_on_devices_are_steps_on_one(params, count):
    """With SGD, on a batch whose last place is empty; one device against the gradient itself."""
    objective, optimizer = classifier.objective(classifier=MODEL, attack=ASCENT), optax.sgd(0.5)
    make = lambda devices: train.make_step(objective, optimizer, devices=devices)
    trainer = train.parallel(make, num_devices=count, draw=classifier.no_negatives)
    state = train.init_state(params, optimizer, jax.random.key(3))
    batches = {name: np.asarray(column)[None] for name, column in BATCH.items()}
    seen = sampling.seen(classifier.interactions(LABELS, num_classes=4))
    after = trainer.get(trainer.run(trainer.put(state), params["given"], seen, batches)[0])
    _, grad = value_and_grad(params, attack=ASCENT)
    for ours, start, slope in zip(*map(jax.tree.leaves, (after.trained, params["weights"], grad)), strict=True):
        np.testing.assert_allclose(ours, start - 0.5 * slope, atol=1e-5)


def test_what_is_wrong_is_refused():
    for sizes in ({"hidden": (0,)}, {"num_pixels": 0}, {"num_classes": 0}):
        with pytest.raises(ValueError, match=f"Expected {next(iter(sizes))} >= 1"):
            classifier.mlp(**sizes)
    with pytest.raises(ValueError, match=r"Expected items in \[0, 3\), got 3"):
        classifier.interactions(LABELS, num_classes=3)
    build = functools.partial(classifier.objective, classifier=MODEL, attack=ASCENT)
    with pytest.raises(ValueError, match="Expected adv_weight >= 0"):
        build(adv_weight=-1.0)
