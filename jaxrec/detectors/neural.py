"""A perceptron of profile statistics, trained in JAX on fakes of the defender's own making.

It learns what `classifier` learns, from the same fakes; but its suspicion changes smoothly with a profile, where that
of trees has steps. The architecture is ours: nothing in it is of a paper.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn.base

from jaxrec import checks
from jaxrec.detectors import classifier
from jaxrec.types import Array, Detector, Key, Params, Poison

ROWS = 256  # that training is padded to a multiple of: tables of nearly one size compile once
LIMIT = 5.0  # standard deviations beyond which a statistic counts no more: a few profiles are hundreds long


class _Layers(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(1)(nn.tanh(nn.Dense(self.hidden)(x)))[..., 0]


class Perceptron(sklearn.base.ClassifierMixin, sklearn.base.BaseEstimator):
    """A perceptron with one hidden layer, in the shape of scikit-learn's classifiers of two classes.

    Features are brought to mean 0 and variance 1 by what it was fitted on. Both classes weigh the same in the loss,
    however rare one is. All steps of Adam, on all rows, are one scan.
    """

    def __init__(self, *, hidden: int = 16, num_steps: int = 300, learning_rate: float = 0.02, seed: int = 0) -> None:
        self.hidden = hidden
        self.num_steps = num_steps
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(self, features: np.ndarray, is_fake: np.ndarray) -> "Perceptron":
        """Fits on features [N, F] and bool [N], or numbers 0 and 1, as scikit-learn hands them; some of both kinds."""
        is_fake = np.asarray(is_fake, bool)
        self.classes_ = np.array([False, True])
        self.mean_, self.scale_ = features.mean(axis=0), features.std(axis=0)
        padding = -len(features) % ROWS
        one = np.stack([~is_fake / (~is_fake).sum(), is_fake / is_fake.sum()]) / 2
        self.params_ = _trained(
            jax.random.key(self.seed),
            jnp.pad(self._standard(features), ((0, padding), (0, 0))),
            jnp.asarray(np.pad(one, ((0, 0), (0, padding))), jnp.float32),
            jnp.float32(self.learning_rate),
            hidden=self.hidden,
            num_steps=self.num_steps,
        )
        return self

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Logits of being fake, [N]: they still differ where probabilities are 1."""
        return np.asarray(_logits(self.params_, self._standard(features), hidden=self.hidden))

    def slopes(self, features: np.ndarray) -> np.ndarray:
        """Derivatives of the logits by the features, [N, F]; also beyond `LIMIT`, where the logits stand still."""
        slopes = np.asarray(_slopes(self.params_, self._standard(features), hidden=self.hidden))
        return slopes / np.where(self.scale_ > 0, self.scale_, 1)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of real and fake, [N, 2]."""
        chance = np.asarray(jax.nn.sigmoid(self.decision_function(features)), np.float64)
        return np.stack([1 - chance, chance], axis=1)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Whether fake is the likelier, bool [N]."""
        return self.predict_proba(features)[:, 1] > 0.5

    def _standard(self, features: np.ndarray) -> Array:
        spread = np.where(self.scale_ > 0, self.scale_, 1)
        return jnp.asarray(np.clip((features - self.mean_) / spread, -LIMIT, LIMIT), jnp.float32)


@jax.jit(static_argnames="hidden")
def _logits(params: Params, x: Array, *, hidden: int) -> Array:
    return jnp.asarray(_Layers(hidden).apply({"params": params}, x))


@jax.jit(static_argnames="hidden")
def _slopes(params: Params, x: Array, *, hidden: int) -> Array:
    """Of each row's logit by the row."""
    return jax.grad(lambda x: _logits(params, x, hidden=hidden).sum())(x)


@jax.jit(static_argnames=("hidden", "num_steps"))
def _trained(key: Key, x: Array, weights: Array, learning_rate: Array, *, hidden: int, num_steps: int) -> Params:
    """Weights after full-batch steps on the binary cross-entropy; rows weigh [2, N], as real and as fake."""
    layers, optimizer = _Layers(hidden), optax.adam(learning_rate)

    def loss(params: Params) -> Array:
        logits = jnp.asarray(layers.apply({"params": params}, x))
        return (weights * jax.nn.softplus(jnp.stack([logits, -logits]))).sum()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = layers.init(key, x[:1])["params"]
    return jax.lax.scan(step, (params, optimizer.init(params)), None, length=num_steps)[0][0]


def detector(
    *,
    make: Callable[[int], Sequence[Poison]] | None = None,
    hidden: int = 16,
    num_steps: int = 300,
    learning_rate: float = 0.02,
    num_targets: int = 5,
    num_folds: int = 3,
    seed: int = 0,
) -> Detector:
    """Builds the detector that makes its own fakes, and scores each user by a perceptron that has not seen the user.

    Args:
        make, num_targets, num_folds: As in `classifier.detector`.
        hidden, num_steps, learning_rate: Of the perceptron and of Adam.
        seed: Of the fakes, their targets, the folds and the weights.

    Returns:
        `interactions -> suspicion` [U] in [0, 1].

    Raises:
        ValueError: If `hidden` or `num_steps` is below 1, or as `classifier.detector`.
    """
    checks.counts(hidden=hidden, num_steps=num_steps)
    perceptron = Perceptron(hidden=hidden, num_steps=num_steps, learning_rate=learning_rate, seed=seed)
    return classifier.detector(make=make, estimator=perceptron, num_targets=num_targets, num_folds=num_folds, seed=seed)
