"""Side features of six users and seven items, of every kind, and parameters whose entries are all normal."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec import fields

USER_CODES, ITEM_CODES = np.array([[0], [1], [2], [0], [1], [2]]), np.array([[i % 2, i % 3] for i in range(7)])
VALUES = np.random.default_rng(7)
WITHOUT_CROSSES = fields.Side(
    user_ids=fields.numbered(USER_CODES),
    item_ids=fields.numbered(ITEM_CODES),
    user_values=VALUES.normal(size=(6, 2)).astype(np.float32),
    item_values=VALUES.normal(size=(7, 3)).astype(np.float32),
)
SIDE = WITHOUT_CROSSES._replace(
    user_crossed=np.repeat(USER_CODES, 2, axis=1).astype(np.int32), item_crossed=ITEM_CODES.astype(np.int32)
)


def drawn(model, seed=0, scale=0.7):
    rng = np.random.default_rng(seed)
    params = model.init(jax.random.key(0))
    normal = lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32)
    return {**params, **{part: jax.tree.map(normal, params[part]) for part in ("tables", "weights")}}


def rows_of(params, user, item, num_buckets):
    """All field embeddings of a pair in float64, one row for each field: the user's, the item's, the crosses."""
    tables = {name: np.asarray(table, float) for name, table in params["tables"].items()}
    found = []
    for who, row in (("user", user), ("item", item)):
        found.append(tables[who][row])
        found += [tables[f"{who}_feature"][i] for i in np.asarray(params["given"][f"{who}_ids"])[row]]
        values = np.asarray(params["given"][f"{who}_values"], float)[row]
        found += [x * vector for x, vector in zip(values, tables[f"{who}_value"], strict=True)]
    if "user_crossed" in params["given"]:
        codes = [params["given"][f"{who}_crossed"][row][None] for who, row in (("user", user), ("item", item))]
        found += [tables["cross"][bucket] for bucket in np.asarray(fields.crossed(*codes, num_buckets))[0]]
    return np.stack(found)
