"""Score ensembles: several models as one, their scores brought to one scale for each user and added with weights.

The weighted hybrid of Burke, "Hybrid Recommender Systems: Survey and Experiments", User Modeling and User-Adapted
Interaction 2002, https://doi.org/10.1023/A:1021240730564, on z-scores, or on places in each model's ranking: the Borda
count, and reciprocal rank fusion (Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion Outperforms Condorcet and
Individual Rank Learning Methods", SIGIR 2009, https://doi.org/10.1145/1571941.1572114).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy import stats

from jaxrec import checks, profiles
from jaxrec.models import ials, item_knn
from jaxrec.types import Array, Interactions, Key, Model, Params, PyTree

Scale = Literal["zscore", "borda", "rrf", "none"]


def model(
    *,
    num_users: int,
    num_items: int,
    dimension: int = 64,
    members: Mapping[str, Model] | None = None,
    weights: Sequence[float] | None = None,
    scale: Scale = "zscore",
    rrf_offset: float = 60.0,
) -> Model:
    """Builds the model of the members' weighted scores.

        score(u, i) = sum over members m of  weight_m * scale(scores of m for u over the whole catalogue)_i

    Args:
        num_users, num_items: Of the data.
        dimension: Of the default members' embeddings.
        members: {name: a built model}; names without "/". By default iALS and item-kNN, factors beside counts.
        weights: One for each member, equal by default. They are params["weights"]["members"], so that they can be
            chosen on validation, and attacked, without compiling anew (`reweighted`).
        scale: "zscore": less their mean, over their standard deviation; a user whose scores are all equal gets 0.
            "borda": the share of the catalogue that scores lower, ties half. "rrf": 1 / (rrf_offset + rank), ties
            at their mean rank. "none": as they are. Ranks have gradient zero everywhere: an adversary of "borda" and
            "rrf" needs an oracle that estimates gradients, or transfers.
        rrf_offset: The paper's k.

    Returns:
        A `Model` whose tables, and what is given, are the members' by the names "MEMBER/NAME", and whose weights are
        those of each member beside "members"; `joined` makes such params out of the members', however they were
        trained. It has `solve` if all members have it, `solve_users` if any has. A score costs the scores of the whole
        catalogue.

    Raises:
        ValueError: If there are no members, a name has a "/" or is "members", there are not as many weights, one is not
            finite, `rrf_offset` is not above 0 and finite, or `scale` is none of the four.
    """
    if members is None:
        members = {
            "ials": ials.model(num_users=num_users, num_items=num_items, dimension=dimension),
            "item_knn": item_knn.model(num_users=num_users, num_items=num_items),
        }
    members, shares = dict(members), [1.0] * len(members) if weights is None else list(weights)
    _check(members, shares, rrf_offset)
    rescale = _scales(rrf_offset).get(scale)
    if rescale is None:
        raise ValueError(f'Expected scale "zscore", "borda", "rrf" or "none", got scale={scale!r}.')

    def whole(found: Mapping[str, Params]) -> Params:
        return reweighted(joined(found), shares)

    def init(key: Key) -> Params:
        keys = jax.random.split(key, len(members))
        return whole({name: member.init(key) for (name, member), key in zip(members.items(), keys, strict=True)})

    def solve(train: Interactions, key: Key) -> Params:
        keys = jax.random.split(key, len(members))
        pairs = zip(members.items(), keys, strict=True)
        return whole({name: _solver(member)(train, key) for (name, member), key in pairs})

    def solve_users(params: Params, known: Interactions) -> Params:
        anew = {name: member.solve_users for name, member in members.items() if member.solve_users is not None}
        solved = {name: of_member(part(params, name), known)["tables"] for name, of_member in anew.items()}
        return {**params, "tables": params["tables"] | _flat(solved)}

    def given(known: Interactions) -> dict[str, PyTree]:
        made = {name: member.given(known) for name, member in members.items() if member.given is not None}
        return _flat(made)

    def score_all(params: Params, users: Array) -> Array:
        scores = [rescale(member.score_all(part(params, name), users)) for name, member in members.items()]
        return jnp.einsum("m,mbi->bi", params["weights"]["members"], jnp.stack(scores))

    def score(params: Params, users: Array, items: Array) -> Array:
        def of_pairs(users, items):
            return jnp.take_along_axis(score_all(params, users), items[:, None], axis=1)[:, 0]

        return profiles.pair_by_pair(of_pairs, users, items)

    return Model(
        init=init,
        score=score,
        score_all=score_all,
        solve=solve if all(member.solve is not None for member in members.values()) else None,
        solve_users=solve_users if any(member.solve_users is not None for member in members.values()) else None,
        given=given if any(member.given is not None for member in members.values()) else None,
    )


def joined(members: Mapping[str, Params]) -> Params:
    """The ensemble's params out of its members' by name, all members with weight 1."""
    return {
        "tables": _flat({name: params["tables"] for name, params in members.items()}),
        "weights": {"members": jnp.ones(len(members))} | {name: p["weights"] for name, p in members.items()},
        "given": _flat({name: params["given"] for name, params in members.items()}),
    }


def reweighted(params: Params, weights: Sequence[float] | Array) -> Params:
    """The ensemble's params with other weights, one for each member in their order."""
    return {**params, "weights": {**params["weights"], "members": jnp.asarray(weights, jnp.float32)}}


def part(params: Params, name: str) -> Params:
    """A member's params out of the ensemble's."""
    own = lambda tree: {key.removeprefix(f"{name}/"): x for key, x in tree.items() if key.startswith(f"{name}/")}
    return {"tables": own(params["tables"]), "weights": params["weights"][name], "given": own(params["given"])}


def _flat(trees: Mapping[str, Mapping[str, PyTree]]) -> dict[str, PyTree]:
    return {f"{name}/{key}": x for name, tree in trees.items() for key, x in tree.items()}


def _solver(member: Model) -> Callable[[Interactions, Key], Params]:
    if member.solve is None:
        raise ValueError("Expected members that are solved, got one that is trained: make its params, and `joined`.")
    return member.solve


def _scales(rrf_offset: float) -> dict[str, Callable[[Array], Array]]:
    """Scores [B, I] -> [B, I], by name."""

    def lower(scores: Array) -> Array:
        return stats.rankdata(scores, axis=1) - 1  # how many score lower, ties half

    num = lambda scores: scores.shape[1]
    return {
        "zscore": _zscore,
        "borda": lambda scores: lower(scores) / max(num(scores) - 1, 1),
        "rrf": lambda scores: 1 / (rrf_offset + num(scores) - lower(scores)),
        "none": lambda scores: scores,
    }


def _zscore(scores: Array) -> Array:
    centred = scores - scores.mean(axis=1, keepdims=True)
    variance = jnp.square(centred).mean(axis=1, keepdims=True)
    # Rounding of equal scores is no spread; and the square root of 0 has no slope.
    equal = variance <= 1e-10 * jnp.square(scores).max(axis=1, keepdims=True)
    return jnp.where(equal, 0, centred) / jnp.sqrt(jnp.where(equal, 1, variance))


def _check(members: Mapping[str, Model], weights: Sequence[float], rrf_offset: float) -> None:
    """Refuses what no ensemble can be made of."""
    wrong = [name for name in members if "/" in name or name == "members"]
    if not members or wrong:
        raise ValueError(f'Expected at least one member, no name with "/" and none "members", got {list(members)}.')
    if len(weights) != len(members) or not all(abs(weight) < float("inf") for weight in weights):
        raise ValueError(f"Expected {len(members)} finite weights, one for each member, got weights={weights}.")
    checks.positive(rrf_offset=rrf_offset)
