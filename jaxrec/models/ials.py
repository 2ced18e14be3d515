"""iALS: matrix factorisation of all pairs, those nobody has seen with a small weight, by alternating least squares.

Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008,
https://doi.org/10.1109/ICDM.2008.22, as in Rendle, Krichene, Zhang and Koren, "Revisiting the Performance of iALS on
Item Recommendation Benchmarks", RecSys 2022, arXiv:2110.14037.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from jaxrec import checks, profiles
from jaxrec.models import mf
from jaxrec.types import Array, Interactions, Key, Model, Params

PIECE = 64  # ids of a row's list that are multiplied at a time
ROWS = 128  # rows that are solved at a time
PLACES = 16  # a chunk has a multiple of them for its pieces, so that data that differ little share a program


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 64,
    l2: float = 0.007,
    unobserved_weight: float = 0.3,
    l2_exponent: float = 1.0,
    num_epochs: int = 12,
    init_scale: float = 0.1,
) -> Model:
    """Builds the model, whose tables `solve` finds by sweeps over users and items in turn. Each sweep minimises

        sum over pairs in the data of (1 - p_u . q_i)^2  +  w * sum over all pairs of (p_u . q_i)^2
            + l2 * sum over u of (n_u + w * I)^e * |p_u|^2  +  l2 * sum over i of (n_i + w * U)^e * |q_i|^2

    in one of the tables, exactly; n are counts of pairs, w is `unobserved_weight`, e `l2_exponent` (eqs. 1 to 4).

    Args:
        num_users, num_items, dimension: As in `mf.model`.
        l2: The paper's lambda; the defaults are its settings for MovieLens-1M, but for its dimension of 192.
        unobserved_weight: The paper's alpha_0.
        l2_exponent: The paper's nu; 0 is the plain L2 of most libraries.
        num_epochs: Sweeps over both tables.
        init_scale: Over the square root of D, the standard deviation of the normal that the tables start from.

    Returns:
        A `Model` with the tables and scores of `mf.model`, and its gauge. A user without history and an item never seen
        have a row of zeros. As in the paper's code users are solved first, so their initial rows do not matter; theirs
        is in float64, this in float32.

    Raises:
        ValueError: As in `mf.model`; if `num_epochs < 1`, `l2` or `unobserved_weight` is not above 0 and finite, or
            `l2_exponent` is negative or not finite.
    """
    embeddings = mf.model(num_users=num_users, num_items=num_items, dimension=dimension, init_scale=init_scale)
    checks.counts(num_epochs=num_epochs)
    checks.positive(l2=l2, unobserved_weight=unobserved_weight)
    checks.non_negative(l2_exponent=l2_exponent)

    weights = jnp.array([l2, unobserved_weight, l2_exponent])

    def init(key: Key) -> Params:
        user_key, item_key = jax.random.split(key)
        scale = init_scale / dimension**0.5
        user = scale * jax.random.normal(user_key, (num_users, dimension))
        item = scale * jax.random.normal(item_key, (num_items, dimension))
        return {"tables": {"user": user, "item": item}, "weights": {}, "given": {}}

    def solve(train: Interactions, key: Key) -> Params:
        start = init(key)["tables"]
        user, item = sweeps(start["user"], start["item"], *plans(train), weights, num_epochs)
        return {"tables": {"user": user, "item": item}, "weights": {}, "given": {}}

    def solve_users(params: Params, known: Interactions) -> Params:
        tables = params["tables"]
        user = half_sweep(tables["user"], tables["item"], plans(known)[0], weights)
        return {**params, "tables": {**tables, "user": user}}

    return dataclasses.replace(embeddings, init=init, solve=solve, solve_users=solve_users)


class Plan(NamedTuple):
    """The lists of all rows of a table, cut to pieces of one length and dealt to chunks of rows, on the device.

    Attributes:
        rows: int32 [chunks, R], the rows of each chunk; out of range in a place that is left over.
        counts: float32 [chunks, R], the lengths of their lists.
        owners: int32 [chunks, M], the place in its chunk of each piece's row; R in a piece that is left over.
        ids: int32 [chunks, M, L], rows of the other table; out of range in a place that is left over.
    """

    rows: Array
    counts: Array
    owners: Array
    ids: Array


def plans(train: Interactions) -> tuple[Plan, Plan]:
    """The plans for the sweep over users and for that over items."""
    pairs = profiles.matrix(train)
    return _plan(pairs, train.num_items), _plan(pairs.T.tocsr(), train.num_users)


def _plan(pairs: scipy.sparse.csr_array, num_others: int) -> Plan:
    """Rows are dealt to chunks like cards, longest lists first, so that all chunks have about as many pieces."""
    counts = np.diff(pairs.indptr)
    num_rows = len(counts)
    num_chunks = -(-num_rows // ROWS)
    chunk, place = np.empty((2, num_rows), np.int64)
    by_count = np.argsort(-counts, kind="stable")
    place[by_count], chunk[by_count] = np.divmod(np.arange(num_rows), num_chunks)
    rows = np.full((num_chunks, -(-num_rows // num_chunks)), num_rows, np.int32)
    rows[chunk, place] = np.arange(num_rows)
    lengths = np.zeros(rows.shape, np.float32)
    lengths[chunk, place] = counts

    num_pieces = -(-counts // PIECE)
    owner = np.repeat(np.arange(num_rows), num_pieces)
    order = np.argsort(chunk[owner], kind="stable")
    per_chunk = np.bincount(chunk[owner], minlength=num_chunks)
    starts = np.cumsum(per_chunk) - per_chunk
    slot = np.empty(len(owner), np.int64)  # of each piece in its chunk
    slot[order] = np.arange(len(owner)) - np.repeat(starts, per_chunk)
    num_places = -(-int(per_chunk.max(initial=1)) // PLACES) * PLACES
    owners = np.full((num_chunks, num_places), rows.shape[1], np.int32)
    owners[chunk[owner], slot] = place[owner]

    ids = np.full((*owners.shape, PIECE), num_others, np.int32)
    row = np.repeat(np.arange(num_rows), counts)
    piece, offset = np.divmod(np.arange(len(row)) - pairs.indptr[row], PIECE)
    piece += (np.cumsum(num_pieces) - num_pieces)[row]
    ids[chunk[row], slot[piece], offset] = pairs.indices
    return Plan(*jax.device_put((rows, lengths, owners, ids)))


@functools.partial(jax.jit, static_argnames="num_epochs")
def sweeps(
    user: Array, item: Array, by_user: Plan, by_item: Plan, weights: Array, num_epochs: int
) -> tuple[Array, Array]:
    """The tables after sweeps over the users and then the items, `num_epochs` times: one program for all of them."""

    def epoch(_, tables):
        user, item = tables
        user = half_sweep(user, item, by_user, weights)
        return user, half_sweep(item, user, by_item, weights)

    return jax.lax.fori_loop(0, num_epochs, epoch, (user, item))


class Soft(NamedTuple):
    """Pairs that count by a weight each, beside those of a `Plan`.

    Attributes:
        shares: [rows, N], the weight of each pair of a row with a vector; 1 is a pair of the data, 0 none.
        vectors: [N, D].
    """

    shares: Array
    vectors: Array


def half_sweep(table: Array, other: Array, plan: Plan, weights: Array, soft: Soft | None = None) -> Array:
    """The table [rows, D] that minimises the objective, given the other one [others, D].

    Args:
        plan: That of this table's rows.
        weights: [l2, unobserved_weight, l2_exponent].
        soft: More pairs, whose vectors are rows of `other` too; a weight counts as that much of a pair everywhere.
    """

    def of_chunk(chunk):
        left, right = normal_equations(other, chunk, weights, soft)
        factor = jnp.linalg.cholesky(left)
        return jax.scipy.linalg.cho_solve((factor, True), right[..., None])[..., 0]

    solved = jax.lax.map(of_chunk, plan)
    return table.at[plan.rows].set(solved, mode="drop")


def normal_equations(other: Array, chunk: Plan, weights: Array, soft: Soft | None = None) -> tuple[Array, Array]:
    """Left sides [R, D, D] and right sides [R, D] of the rows in one chunk of a plan; arguments as in `half_sweep`."""
    l2, unobserved_weight, exponent = weights
    num_others, dimension = other.shape
    num_slots = len(chunk.rows)
    read = other.at[chunk.ids].get(mode="fill", fill_value=0)  # [M, L, D]
    products = jnp.einsum("mld,mle->mde", read, read)
    squares = jax.ops.segment_sum(products, chunk.owners, num_slots)
    sums = jax.ops.segment_sum(read.sum(axis=1), chunk.owners, num_slots)
    counts = chunk.counts
    if soft is not None:
        shares = soft.shares.at[chunk.rows].get(mode="fill", fill_value=0)  # [R, N]
        squares += jnp.einsum("rn,nd,ne->rde", shares, soft.vectors, soft.vectors)
        sums += shares @ soft.vectors
        counts += shares.sum(axis=1)
    decay = l2 * (counts + unobserved_weight * num_others) ** exponent
    everything = unobserved_weight * other.T @ other
    return squares + everything[None] + decay[:, None, None] * jnp.eye(dimension)[None], sums
