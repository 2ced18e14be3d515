"""CL4SRec: two random views of a history, cropped, masked or reordered, should look alike, and unlike other users'.

Xie, Sun, Liu, Wu, Gao, Zhang, Ding and Cui, "Contrastive Learning for Sequential Recommendation", ICDE 2022,
arXiv:2010.14395.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrec import checks, losses
from jaxrec.sequences import EMPTY
from jaxrec.types import Array, Key, Model, Objective, Scalar


class View(NamedTuple):
    """A history [L] as it is read: items, -1 where nothing is or where it is masked, and which places are filled."""

    ids: Array
    present: Array


Augmentation = Callable[[Key, Array], View]  # (key, history [L]) -> view


def _check(share: float) -> None:
    checks.rates(share=share)


def _part(share: float, num: Array) -> Array:
    """floor(share * num), int32."""
    return jnp.floor(share * num + 1e-4).astype(jnp.int32)  # .7 * 10 is below 7 in float32


def crop(share: float = 0.6) -> Augmentation:
    """A random stretch of floor(share * n) of the n items, at least one, put at the end (the paper's eta)."""
    _check(share)

    def cropped(key, history):
        length, num = len(history), jnp.sum(history != EMPTY)
        size = jnp.maximum(_part(share, num), 1)
        first = length - num + jax.random.randint(key, (), 0, jnp.maximum(num - size, 0) + 1)
        places = jnp.arange(length)
        present = (places >= length - size) & (num > 0)
        ids = history[jnp.clip(first + places - (length - size), 0, length - 1)]
        return View(jnp.where(present, ids, EMPTY), present)

    return cropped


def mask(share: float = 0.3) -> Augmentation:
    """floor(share * n) random items are hidden: their places are filled, by rows of zeros (the paper's gamma; its mask
    has a trained row).
    """
    _check(share)

    def masked(key, history):
        present = history != EMPTY
        draws = jnp.where(present, jax.random.uniform(key, history.shape), 2)
        hidden = present & (jnp.argsort(jnp.argsort(draws)) < _part(share, jnp.sum(present)))
        return View(jnp.where(hidden, EMPTY, history), present)

    return masked


def reorder(share: float = 0.6) -> Augmentation:
    """A random stretch of floor(share * n) items in random order (the paper's beta)."""
    _check(share)

    def reordered(key, history):
        first_key, order_key = jax.random.split(key)
        length, num = len(history), jnp.sum(history != EMPTY)
        size = _part(share, num)
        first = length - num + jax.random.randint(first_key, (), 0, num - size + 1)
        places = jnp.arange(length)
        inside = (places >= first) & (places < first + size)
        ranks = jnp.where(inside, first - 0.5 + size * jax.random.uniform(order_key, history.shape), places)
        return View(history[jnp.argsort(ranks)], history != EMPTY)

    return reordered


def objective(
    *,
    clean: Objective,
    model: Model,
    augmentations: Sequence[Augmentation] = (crop(), mask(), reorder()),
    weight: Scalar = 0.1,
    temperature: Scalar = 1.0,
) -> Objective:
    """Builds the objective of the clean loss and the contrast of views:

        L(params) + weight * sum over users of the mean over both views z, z' of
            -log(exp(z . z' / temperature) / sum over z'' of exp(z . z'' / temperature))        (eq. 2)

    z'': z' and both views of the other users of the batch; z: the state after the view's last place, under the model's
    own dropout. Each view is made by one of the augmentations, drawn for each user, twice the same included.

    Args:
        clean: `sequences.next_item(model=model, ...)`; it sees the histories as they are.
        model: With `sequence.states`.
        augmentations: What views are made by. The paper tries shares of .1 to .9 for each.
        weight: The paper's lambda (.1 there). 0 leaves the clean loss and gradient. The clean loss is here a sum over
            places, so that it weighs more than the paper's mean over them, the longer histories are.
        temperature: 1 in the paper, which has none.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)` on batches of users (`sequences.examples`): the metrics of
        `clean` and the sum `contrast`. A view depends on the step and the user; the other users, as in
        `objectives.in_batch`, are those of the same device, so that the outcome depends on the number of devices. A
        user alone in a batch has contrast 0, and no gradient of it.

    Raises:
        ValueError: If there is no augmentation, `weight` is negative or `temperature` not positive, or one of them not
            finite, or the model has no states of places.
    """
    checks.non_negative(weight=weight)
    checks.positive(temperature=temperature)
    if not augmentations:
        raise ValueError("Expected at least one augmentation, got none.")
    if model.sequence is None or model.sequence.states is None:
        raise ValueError("Expected a model of item sequences that looks at no later item, with sequence.states.")
    embed, states_of = model.sequence.embed, model.sequence.states

    def state(params, user, history, key):
        which_key, view_key, drop_key = jax.random.split(key, 3)
        which = jax.random.randint(which_key, (), 0, len(augmentations))
        view = jax.lax.switch(which, augmentations, view_key, history)
        return states_of(params, user, embed(params, view.ids), view.present, drop_key)[-1]

    def contrasted(params, batch, key, reduce):
        clean_key, *view_keys = jax.random.split(key, 3)
        loss, metrics = clean(params, batch, clean_key, reduce)
        users = batch["users"]
        histories = params["given"]["histories"][users]

        def views(key):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, users)
            return jax.vmap(state, (None, 0, 0, 0))(params, users, histories, keys)

        first, second = (views(key) for key in view_keys)
        each = _contrast(first, second, users, batch["where"], temperature)
        contrast = jnp.sum(jnp.where(batch["where"], each, 0))
        return loss + weight * contrast, {**metrics, "contrast": contrast}

    return contrasted


def _contrast(first: Array, second: Array, users: Array, where: Array, temperature: Scalar) -> Array:
    """The loss of each user's two views [B, E] among those of the users that count, [B]."""
    views = jnp.concatenate([first, second])
    scores = views @ views.T / temperature
    other_view = jnp.roll(jnp.eye(len(views), dtype=bool), len(users), axis=1)
    others = where[None] & (users[:, None] != users[None])
    of_views = losses.softmax(scores, other_view.astype(scores.dtype), other_view | jnp.tile(others, (2, 2)))
    return jnp.mean(of_views.reshape(2, -1), axis=0)
