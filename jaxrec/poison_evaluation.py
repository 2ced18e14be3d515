"""What poisoning does to a recommender that is trained anew: to the targets, to real users, and how it shows.

Targets are measured over the real users who do not know them, accuracy over the real users' own held-out items; fakes
are in no average. Hit ratio and prediction shift are those of Mobasher et al., ACM TOIT 2007; exposure is that of Singh
and Joachims, "Fairness of Exposure in Rankings", KDD 2018, arXiv:1802.07281.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import sklearn.metrics.pairwise

from jaxrec import evaluate, fake_profiles, metrics, profiles
from jaxrec.types import Interactions, Model, Params

CUTOFFS = (10, 20, 50)


class Bench(NamedTuple):
    """Whom and what poisoning is measured on.

    Attributes:
        known: The real users' interactions, which a victim is trained on and does not recommend again.
        targets: [T].
        listing: All real users.
        plan: Their held-out items.
    """

    known: Interactions
    targets: np.ndarray
    listing: evaluate.ListPlan
    plan: evaluate.RankPlan


class Measured(NamedTuple):
    """How a victim treats the targets and the real users.

    Attributes:
        target_ranks: [U, T], among the items that a user does not know; NaN where the target is known.
        target_scores: [U, T], in standard deviations of the user's scores above their mean; NaN likewise.
        ranks: [n], of the real users' held-out items.
        num_items: I.
    """

    target_ranks: np.ndarray
    target_scores: np.ndarray
    ranks: np.ndarray
    num_items: int


def bench(known: Interactions, held_out: Interactions, targets: np.ndarray) -> Bench:
    """Lays out what is measured, once for a data set and its targets.

    Args:
        known: Of the real users alone.
        held_out: At most one interaction of each.
        targets: [T].

    Raises:
        InputError: If every user knows a target: there is nobody whom it could be recommended to.
        ValueError: If a target is out of range, or as `evaluate.prepare`.
    """
    fake_profiles.check_reachable(known, targets)
    return Bench(known, targets, evaluate.prepare_lists([known]), evaluate.prepare([known], held_out))


def measure(model: Model, params: Params, on: Bench) -> Measured:
    """Ranks the targets and the held-out items for the real users, who are the model's first ones.

    A model that scores by what users are known to have (item-kNN, EASE) reads it from its params, so real users whom
    a defence has left out of the training are served as newcomers, unless `Model.knowing` gives them their histories.
    """
    ranks, scores = evaluate.standings(model, params, on.listing, jnp.asarray(on.targets, jnp.int32))
    own = evaluate.ranks(model, params, on.plan)
    ranks, scores, own = (np.asarray(x, np.float64) for x in (ranks, scores, own))
    return Measured(ranks, scores, own, on.known.num_items)


def figures(measured: Measured, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """{"target_hit_rate@10": value, ...}: means over targets of means over users, and the real users' accuracy.

        target_hit_rate@k   share of the users who do not know a target who get it among their first k
        target_ndcg@k       mean 1 / log2(1 + rank) of the target within the first k, 0 beyond
        exposure@k          the target's share of the attention 1 / log2(1 + place) of all real users' first k places
        hit_rate@k, ndcg@k  of the real users' held-out items
        target_score        the target's standard score

    Raises:
        InputError: If a cutoff is below 1 or above the number of items.
    """
    found = {"target_score": float(np.mean(np.nanmean(measured.target_scores, axis=0)))}
    for k in cutoffs:
        of_targets = {"target_hit_rate": [], "target_ndcg": [], "exposure": []}
        attention = (1 / np.log2(1 + np.arange(1, k + 1))).sum() * len(measured.target_ranks)
        for ranks in measured.target_ranks.T:
            audience = ranks[~np.isnan(ranks)]
            gains = metrics.ndcg(audience, k, measured.num_items)
            of_targets["target_hit_rate"].append(metrics.hit_rate(audience, k, measured.num_items).mean())
            of_targets["target_ndcg"].append(gains.mean())
            of_targets["exposure"].append(gains.sum() / attention)
        found |= {f"{name}@{k}": float(np.mean(values)) for name, values in of_targets.items()}
    for k in cutoffs:
        found[f"hit_rate@{k}"] = float(metrics.hit_rate(measured.ranks, k, measured.num_items).mean())
        found[f"ndcg@{k}"] = float(metrics.ndcg(measured.ranks, k, measured.num_items).mean())
    return found


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """{"target_hit_rate_change@10": after less before, ..., "prediction_shift": ...} of one seed's pair of trainings.

    Both from `figures`. The prediction shift is the mean rise of the targets' standard scores: in that unit a retrained
    model whose scores have another scale compares.
    """
    names = {name: "prediction_shift" if name == "target_score" else _changed(name) for name in before}
    return {changed: after[name] - before[name] for name, changed in names.items()}


def _changed(name: str) -> str:
    """The name of a figure's change."""
    return name.replace("@", "_change@")


def recovered(
    clean: Mapping[str, float], attacked: Mapping[str, float], defended: Mapping[str, float]
) -> dict[str, float]:
    """{metric: share of what the attack changed that a defence took back}: 1 all of it, 0 nothing, below 0 worse.

    All three from `figures`. NaN where the attack changed nothing.
    """
    shares = {}
    for name, value in clean.items():
        moved = attacked[name] - value
        shares[name] = (attacked[name] - defended[name]) / moved if moved else np.nan
    return shares


def distances(known: Interactions, fakes: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """How far each fake [F], and each real user [U], lies from the nearest *other* real user: 1 - cosine of profiles.

    Of ratings where there are some, else of ones; 1 for a user without interactions. Fakes that lie as near as real
    users do are hard to tell from them.
    """
    real, fake = (profiles.ratings(part) for part in (known, fakes))
    from_fakes, among = (sklearn.metrics.pairwise.cosine_similarity(part, real) for part in (fake, real))
    np.fill_diagonal(among, 0)
    return 1 - from_fakes.max(axis=1, initial=0), 1 - among.max(axis=1, initial=0)
