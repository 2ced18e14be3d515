"""A classifier of images, beside the recommenders: the same attacks, steps and loop on the setting they come from.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
arXiv:1706.06083, train against PGD as `objective` does. To the loop an image is a user, who has touched one item, its
class: `interactions` names the images of a batch in `users` and their classes in `pos`, and the images lie in
params["given"]["images"].
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import checks, losses, norms, oracles
from jaxrec.types import Array, Attack, Interactions, Key, Objective, Oracle, Params, PyTree, Scalar

BOX = (0.0, 1.0)  # of a pixel


class Classifier(NamedTuple):
    """A classifier as pure functions.

    Attributes:
        init: key -> weights.
        logits: (weights, pixels float [N, P]) -> [N, C].
    """

    init: Callable[[Key], PyTree]
    logits: Callable[[PyTree, Array], Array]


class _Perceptron(nn.Module):
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


def mlp(*, num_pixels: int = 784, hidden: Sequence[int] = (128,), num_classes: int = 10) -> Classifier:
    """Builds a perceptron with relu layers: 784-128-10 by default.

    Raises:
        ValueError: If a size is not a whole number of at least 1.
    """
    for name, size in (
        ("num_pixels", num_pixels),
        *(("hidden", width) for width in hidden),
        ("num_classes", num_classes),
    ):
        checks.counts(**{name: size})
    layers = _Perceptron((*hidden, num_classes))

    def logits(weights: PyTree, pixels: Array) -> Array:
        return jnp.asarray(layers.apply({"params": weights}, pixels))

    return Classifier(init=lambda key: layers.init(key, jnp.zeros((1, num_pixels)))["params"], logits=logits)


def init(classifier: Classifier, images: np.ndarray, key: Key) -> Params:
    """The parameters at the start of a training on uint8 images [N, ...], which go to the device once."""
    return {
        "tables": {},
        "weights": classifier.init(key),
        "given": {"images": jnp.asarray(_flat(images))},
    }


def interactions(labels: np.ndarray, *, num_classes: int = 10) -> Interactions:
    """Image n and its class, as user n and the one item of it.

    Raises:
        ValueError: If a label is no class.
    """
    rows = np.arange(len(labels), dtype=np.int32)
    return Interactions(rows, labels.astype(np.int32), num_users=len(labels), num_items=num_classes)


def no_negatives(key: Key, users: Array, seen: object, *, index: Array | int = 0, count: int = 1) -> Array:
    """A `sampling.Draw` that draws nothing: the other classes are all there."""
    del key, seen, index, count
    return jnp.zeros_like(users)


def pixels(images: Array) -> Array:
    """uint8 [...] -> float32 [...] in [0, 1]."""
    return images.astype(jnp.float32) / 255


def oracle(classifier: Classifier, weights: PyTree, x: Array, labels: Array) -> Oracle:
    """Of an adversary who knows everything, and perturbs each image alone.

    Args:
        x: Pixels [N, P] in [0, 1], where x + delta stays.
        labels: int [N].

    Returns:
        The cross entropy [N] as the losses to raise, with logits [N, C], labels and box.
    """
    return oracles.white_box(
        lambda key, x: _cross_entropy(classifier.logits(weights, x), labels),
        scores=lambda key, x: classifier.logits(weights, x),
        labels=labels,
        box=BOX,
    )


def objective(*, classifier: Classifier, attack: Attack | None = None, adv_weight: Scalar = 1.0) -> Objective:
    """Builds the cross entropy, or that plus the cross entropy of attacked images.

        mean over the batch of L(x) + adv_weight * L(x + delta),   delta = attack(x)

    Args:
        attack: With `pgd` it is adversarial training, with `random_noise` its control; None for L(x) alone.
        adv_weight: 1 counts clean and attacked images the same; Madry et al. train on the attacked ones alone.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches of `interactions`. Images whose `where` is false
        do not count, and delta carries no gradient. On several devices an image has the same delta as on one, but for
        attacks that draw random numbers. The metrics are sums over images: `loss`, `accuracy`, `examples` and, of the
        attacked ones, `adv_loss`, `adv_accuracy`.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """
    checks.non_negative(adv_weight=adv_weight)

    def against(params, batch, key, reduce):
        x, labels, where = pixels(params["given"]["images"][batch["users"]]), batch["pos"], batch["where"]
        counted = lambda values: jnp.sum(jnp.where(where, values, 0))

        def measured(x):
            logits = classifier.logits(params["weights"], x)
            return counted(_cross_entropy(logits, labels)), counted(jnp.argmax(logits, axis=1) == labels)

        loss, accuracy = measured(x)
        total, metrics = loss, {"loss": loss, "accuracy": accuracy, "examples": jnp.sum(where)}
        if attack is not None:
            delta, _ = attack(key, oracle(classifier, jax.lax.stop_gradient(params["weights"]), x, labels), x)
            adv_loss, adv_accuracy = measured(x + delta)
            total = loss + adv_weight * adv_loss
            metrics |= {"adv_loss": adv_loss, "adv_accuracy": adv_accuracy}
        return total / reduce(metrics["examples"]), metrics

    return against


class Attacked(NamedTuple):
    """What an attack did to images.

    Attributes:
        correct: bool [N], right as they are and with the perturbation: delta = 0 is legal too.
        l2, linf, num_changed: [N], of the perturbation: its norms, and how many pixels it changes.
        gradient_evaluations, queries: What one image cost; the most of all chunks.
    """

    correct: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    num_changed: np.ndarray
    gradient_evaluations: int
    queries: int


def correct(classifier: Classifier, weights: PyTree, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of the uint8 images [N, ...] are right as they are, bool [N]."""
    return np.asarray(_right(classifier, weights, pixels(jnp.asarray(_flat(images))), jnp.asarray(labels)))


def evaluator(
    classifier: Classifier, attack: Attack, *, chunk_size: int = 1000
) -> Callable[[PyTree, np.ndarray, np.ndarray, Key], Attacked]:
    """Builds `(weights, uint8 images [N, ...], labels [N], key) -> Attacked`, compiled once for all weights.

    Args:
        attack: Is mounted on `oracle`.
        chunk_size: Images attacked at once.
    """

    @jax.jit
    def on_chunk(weights, images, labels, key):
        x = pixels(images)
        delta, info = attack(key, oracle(classifier, weights, x, labels), x)
        stands = _right(classifier, weights, x, labels) & _right(classifier, weights, x + delta, labels)
        sizes = norms.L2.size(delta), norms.LINF.size(delta), jnp.sum(delta != 0, axis=1)
        return stands, *sizes, info["gradient_evaluations"], info["queries"]

    def evaluate(weights, images, labels, key):
        images, labels = _flat(images), labels.astype(np.int32)
        starts = range(0, len(images), chunk_size)
        keys = jax.random.split(key, len(starts))
        parts = [slice(start, start + chunk_size) for start in starts]
        chunks = [on_chunk(weights, images[part], labels[part], key) for part, key in zip(parts, keys, strict=True)]
        stands, l2, linf, num_changed, gradients, queries = zip(*jax.device_get(chunks), strict=True)
        of_image = [np.concatenate(column) for column in (stands, l2, linf, num_changed)]
        return Attacked(*of_image, gradient_evaluations=int(max(gradients)), queries=int(max(queries)))

    return evaluate


@functools.partial(jax.jit, static_argnums=0)
def _right(classifier: Classifier, weights: PyTree, x: Array, labels: Array) -> Array:
    """Whether the class with the highest logit is the label, [N]."""
    return jnp.argmax(classifier.logits(weights, x), axis=1) == labels


def _flat(images: np.ndarray) -> np.ndarray:
    """[N, ...] -> [N, P]."""
    return images.reshape(len(images), -1)


def _cross_entropy(logits: Array, labels: Array) -> Array:
    """[N]."""
    return losses.softmax(logits, jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype))
