"""Small sequence models, a circle of items that users walk round, and how many of them a model sends on to the next."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec import train
from jaxrec.types import Interactions

NUM_ITEMS, NUM_USERS, LENGTH = 8, 32, 6


def circle():
    """From random starts, six items each: what comes next follows from the last item alone; chance is 4 of 32."""
    starts = np.random.default_rng(0).integers(NUM_ITEMS, size=NUM_USERS)
    items = (starts[:, None] + np.arange(LENGTH)) % NUM_ITEMS
    users = np.repeat(np.arange(NUM_USERS, dtype=np.int32), LENGTH)
    return Interactions(users, items.ravel().astype(np.int32), num_users=NUM_USERS, num_items=NUM_ITEMS)


@functools.cache
def built(make, **settings):
    """A small model and parameters all large enough to count."""
    model = make(num_items=NUM_ITEMS, dimension=4, **settings)
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    trained = {"tables": params["tables"], "weights": params["weights"]}
    return model, {**jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), trained), "given": {}}


def states(model, params, ids, key=None):
    """After each place of a history."""
    parts = model.sequence
    run = jax.jit(lambda ids: parts.states(params, jnp.int32(0), parts.embed(params, ids), ids >= 0, key))
    return np.asarray(run(jnp.asarray(ids, jnp.int32)), float)


def num_right(model, objective, *, num_steps=60, learning_rate=0.02):
    """Users whose next item of the circle is first after training on all of them at once."""
    known = circle()
    optimizer = optax.adam(learning_rate)
    step = train.make_step(objective, optimizer)
    params = model.knowing(jax.jit(model.init)(jax.random.key(0)), known)
    batch = {"users": jnp.arange(NUM_USERS), "where": jnp.ones(NUM_USERS, bool)}

    @jax.jit
    def run(state):
        keys = jax.random.split(state.key, num_steps)
        trained = jax.lax.scan(lambda state, key: step(state, params["given"], batch, key), state, keys)[0].trained
        return jnp.argmax(model.score_all({**params, **trained}, batch["users"]), axis=1)

    best = np.asarray(run(train.init_state(params, optimizer, jax.random.key(1))))
    return int((best == (known.items.reshape(NUM_USERS, LENGTH)[:, -1] + 1) % NUM_ITEMS).sum())
