"""PORE: how many relevant items stay in a bagged recommender's first N, whatever e fake users do.

Jia, Liu, Hu and Gong, "PORE: Provably Robust Recommender Systems against Data Poisoning Attacks", USENIX Security 2023,
arXiv:2303.14601.

*The ensemble.* A base model that is trained on s of n users, drawn uniformly without replacement, recommends N' items
to a user, whatever model it is. p_i is the probability, over the draw, that item i is among them; the ensemble
recommends the N items of largest p_i, ties broken in any way.

*The adversary* adds e users of any profiles; the draw is now from n' = n + e. With probability

    q = C(n, s) / C(n', s)

no fake is drawn, and then the draw is one from the n real users, as before. Otherwise the base model may recommend any
N' items: the likelihood ratio of the two draws takes only these two values, so that by Neyman and Pearson's lemma
nothing better can be said. Of the probabilities p' under attack, for every item i and every set J of items,

    p'_i >= q p_i        and        sum of p'_i over J <= q (sum of p_i over J) + (1 - q) min(N', |J|)

*The certificate.* Sort the relevant items by p, e_1 first. If fewer than r of them are listed, then one of e_1 to e_r
is not, and its p' is at least q p_{e_r}; in its stead at least m = N - r + 1 *other* items are listed, and none of them
has a smaller p'. The smallest of the m is at most the mean of any c of them, for which those with the smallest p serve.
So at least r are listed if

    q p_{e_r}  >  min over c = 1, ..., m of  (q S_c + (1 - q) min(N', c)) / c

where S_c is the sum of p over the places m - c + 1, ..., m of the other items, sorted likewise. Nothing is given away:
an adversary would raise the best m others to one level, and the minimum over c is the level that it can pay for, so
some base model leaves no more than r (the tests find it). c = 1 is the paper's condition on single items; its authors'
code takes one more c, here all are tried. The condition for r follows from that for r + 1: a binary search would find
the largest r, but N is small, and all r are tried.

In place of p stand bounds that hold at once for all users and items with confidence 1 - alpha: one-sided
Clopper-Pearson bounds from the votes of T base models, lower ones of relevant items and upper ones of others, each at
alpha over their number (Bonferroni). What is certified is the ensemble of infinitely many base models; one of T models
can differ where p' are close. Of a model that is trained on all users it says nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxrec import checks, metrics
from jaxrec.certificates import smoothing

ROUNDING = 1e-12  # by more than that must a condition hold, so that equal fractions are not told apart by rounding


def overlap(num_users: int, num_sampled: int, num_fakes: int) -> float:
    """q: the probability that `num_sampled` of the users, real and fake, drawn without replacement, are all real.

    Raises:
        ValueError: If `num_sampled` is not in [1, num_users], or `num_fakes < 0`.
    """
    if not 1 <= num_sampled <= num_users:
        raise ValueError(f"Expected num_sampled in [1, {num_users}], the users, got num_sampled={num_sampled}.")
    if num_fakes < 0:
        raise ValueError(f"Expected num_fakes >= 0, got num_fakes={num_fakes}.")
    return math.comb(num_users, num_sampled) / math.comb(num_users + num_fakes, num_sampled)


def bounds(
    counts: Int[np.ndarray, "U I"], relevant: Bool[np.ndarray, "U I"], *, num_models: int, alpha: float = 0.001
) -> Float[np.ndarray, "U I"]:
    """Bounds of all items' probabilities, which hold at once: lower ones of relevant items, upper ones of others.

    Args:
        counts: Votes of each item, of as many independent base models; see the module.
        relevant: Items whose bounds are lower ones.
        num_models: T.
        alpha: Probability, over the draws of base models, that any of the U x I bounds is wrong; the paper's is .001.

    Raises:
        ValueError: If `num_models < 1`, `alpha` is not between 0 and 1, or a count is not in [0, num_models].
    """
    checks.counts(num_models=num_models)
    if not 0 < alpha < 1:
        raise ValueError(f"Expected alpha between 0 and 1, got alpha={alpha}.")
    if counts.min(initial=0) < 0 or counts.max(initial=0) > num_models:
        raise ValueError(f"Expected counts in [0, {num_models}], got {counts.min()} to {counts.max()}.")
    lower = smoothing.lower_bounds(np.arange(num_models + 1), num_models, alpha / counts.size)
    upper = 1 - lower[::-1]
    return np.where(relevant, lower[counts], upper[counts])


def certify(
    probabilities: Float[np.ndarray, "U I"],
    relevant: Bool[np.ndarray, "U I"],
    candidates: Bool[np.ndarray, "U I"],
    *,
    num_users: int,
    num_sampled: int,
    num_recommended: int,
    num_fakes: Sequence[int],
    k: int,
) -> Int[np.ndarray, "U F"]:
    """How many of each user's relevant items are among the ensemble's first k, whatever that many fake users do.

    Args:
        probabilities: From `bounds`, or exact ones. Of no fakes and of votes divided by their number it is how many
            relevant items the vote lists (`listed`).
        relevant: Each user's relevant items, such as those held out.
        candidates: Items that base models may recommend to a user, such as those that the user does not know.
        num_users: n, all real users that base models are drawn from; more than the U that are certified, if need be.
        num_sampled: s.
        num_recommended: N'. A base model may recommend fewer.
        num_fakes: Numbers of fake users, in any order.
        k: N.

    Returns:
        For each user and number of fakes; 0 where nothing can be said. It never grows with the number of fakes.

    Raises:
        InputError: If `k < 1` or `k > I`.
        ValueError: If `num_recommended < 1`, or as `overlap`.
    """
    metrics.check_cutoff(k, probabilities.shape[1])
    checks.counts(num_recommended=num_recommended)
    q = np.array([overlap(num_users, num_sampled, e) for e in num_fakes])[None, :, None]
    of_relevant, of_others = (_largest(probabilities, candidates & x, k) for x in (relevant, ~relevant))
    kept = np.zeros((len(probabilities), len(num_fakes)), np.int64)
    for r in range(1, k + 1):
        places = of_others[:, None, k - r :: -1]  # those of the m = k - r + 1 others, the last first
        sizes = np.arange(1, k - r + 2)[None, None]
        levels = (q * np.cumsum(places, axis=-1) + (1 - q) * np.minimum(num_recommended, sizes)) / sizes
        kept += q[..., 0] * of_relevant[:, r - 1 : r] > levels.min(axis=-1) + ROUNDING
    return kept


def listed(
    counts: Int[np.ndarray, "U I"], relevant: Bool[np.ndarray, "U I"], candidates: Bool[np.ndarray, "U I"], *, k: int
) -> Int[np.ndarray, " U"]:
    """How many relevant items are among the k candidates with most votes, ties against them: what nobody attacks."""
    shares = counts / max(int(counts.max(initial=0)), 1)
    nobody = {"num_users": 1, "num_sampled": 1, "num_recommended": 1, "num_fakes": (0,)}
    return certify(shares, relevant, candidates, k=k, **nobody)[:, 0]


def figures(
    kept: Int[np.ndarray, "U *F"], num_relevant: Int[np.ndarray, " U"], k: int
) -> dict[str, Float[np.ndarray, "U *F"]]:
    """{"precision", "recall", "f1"} at k, of users who have `kept` of their relevant items in their lists.

    Raises:
        ValueError: If a user has no relevant item: leave such users out.
    """
    if (num_relevant < 1).any():
        raise ValueError("Expected a relevant item of each user, got a user with none: leave them out.")
    num = num_relevant.reshape(-1, *(1,) * (kept.ndim - 1))
    return {"precision": kept / k, "recall": kept / num, "f1": 2 * kept / (k + num)}


def _largest(values: np.ndarray, where: np.ndarray, num: int) -> np.ndarray:
    """The `num` largest values of each row [U, num], descending; minus infinity in the places that are left over."""
    masked = np.where(where, values, -np.inf)
    return -np.sort(np.partition(-masked, num - 1, axis=1)[:, :num], axis=1)
