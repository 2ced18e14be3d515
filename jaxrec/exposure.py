"""What lists expose, beyond accuracy: how many items, how evenly, how new, how unlike each other.

`lists` are top-K lists int [U, K], best first, each item at most once in a list, -1 in an empty place. What belongs to
a user comes back as float64 [U], for a paired test to use; what belongs to all lists together is one number.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

Lists = Integer[np.ndarray, "U K"]
Values = Float[np.ndarray, " U"]


def counts(lists: Lists, num_items: int) -> Integer[np.ndarray, " I"]:
    """In how many lists each item stands."""
    return np.bincount(lists[lists >= 0], minlength=num_items)


def coverage(lists: Lists, num_items: int) -> float:
    """Share of the catalogue that stands in at least one list."""
    return float(np.count_nonzero(counts(lists, num_items))) / num_items


def gini(lists: Lists, num_items: int) -> float:
    """Gini coefficient of the items' counts: 0 when all stand in as many lists, 1 - 1 / I when one has all places.

        sum over items, rarest first, of (2 rank - I - 1) count / (I * sum of counts)

    Fleder and Hosanagar, "Blockbuster Culture's Next Rise or Fall: The Impact of Recommender Systems on Sales
    Diversity", Management Science 2009. Over the whole catalogue: items in no list count as 0. (Libraries that print
    1 - Gini as "Gini index" print the opposite.)

    Raises:
        ValueError: If all lists are empty.
    """
    rising = np.sort(_some(counts(lists, num_items)))
    ranks = np.arange(1, num_items + 1)
    return float(((2 * ranks - num_items - 1) * rising).sum() / (num_items * rising.sum()))


def entropy(lists: Lists, num_items: int) -> float:
    """Shannon entropy of the items' shares of all places, in bits: 0 when one item has all, log2(I) when all are equal.

    Raises:
        ValueError: If all lists are empty.
    """
    exposed = _some(counts(lists, num_items))
    shares = exposed[exposed > 0] / exposed.sum()
    return max(0.0, -float((shares * np.log2(shares)).sum()))


def self_information(num_users_of: Integer[np.ndarray, " I"], num_users: int) -> Float[np.ndarray, " I"]:
    """-log2 of the share of users who know an item, in bits.

    Args:
        num_users_of: For each item the number of users who have it in training.
        num_users: All users.

    Returns:
        [I], in [0, log2(num_users)]: an item that nobody knows counts as known to one, or it would be infinitely new.
    """
    return np.log2(num_users / np.maximum(num_users_of, 1))


def novelty(lists: Lists, information: Float[np.ndarray, " I"]) -> Values:
    """Mean self-information of each user's listed items, in bits; 0 for an empty list.

    Zhou, Kuscsik, Liu, Medo, Wakeling and Zhang, "Solving the apparent diversity-accuracy dilemma of recommender
    systems", PNAS 2010, arXiv:0808.2670; Vargas and Castells, "Rank and relevance in novelty and diversity metrics",
    RecSys 2011 (their EPC family without discount and without relevance).

    Args:
        lists: Recommended items.
        information: From `self_information`.
    """
    return _mean_of_listed(lists, information)


def long_tail_share(lists: Lists, tail: Bool[np.ndarray, " I"]) -> Values:
    """Share of each user's list that lies in the long tail; its mean is APLT.

    Abdollahpouri, Burke, Mobasher, "Managing Popularity Bias in Recommender Systems with Personalized Re-ranking",
    FLAIRS 2019, arXiv:1901.07555.

    Args:
        lists: Recommended items.
        tail: True for the items of the long tail (`splits.tail_items`).

    Returns:
        [U]; 0 for an empty list.
    """
    return _mean_of_listed(lists, tail)


def serendipity(lists: Lists, relevant: Integer[np.ndarray, "U R"], expected: Integer[np.ndarray, "U E"]) -> Values:
    """Share of the K places with an item that is relevant and that a primitive recommender would not have listed.

    Ge, Delgado-Battenfeld and Jannach, "Beyond Accuracy: Evaluating Recommender Systems by Coverage and Serendipity",
    RecSys 2010: |listed, relevant, not expected| / K, with the lists of popularity as what is expected.

    Args:
        lists: Recommended items; K divides, however short the list is.
        relevant: Each user's relevant items, -1 in an empty place.
        expected: What the primitive recommender lists for the user, such as the most popular items that the user has
            not seen; -1 in an empty place.
    """
    return ((lists >= 0) & _among(lists, relevant) & ~_among(lists, expected)).sum(axis=1) / lists.shape[1]


def intra_list_diversity(lists: Lists, vectors: Num[np.ndarray, "I F"]) -> Values:
    """Mean distance of the pairs of items in a list, where distance is 1 - cosine of the items' vectors.

    Smyth and McClave, "Similarity vs. Diversity", ICCBR 2001; Ziegler, McNee, Konstan and Lausen, "Improving
    Recommendation Lists Through Topic Diversification", WWW 2005 (whose intra-list similarity is its complement).

    Args:
        lists: Recommended items.
        vectors: Genres (0 or 1), embeddings or other features. The cosine of an all-zero vector with anything is 0: an
            item of which nothing is known is as unlike every other as can be, also one of its kind.

    Returns:
        [U], in [0, 1] for vectors without negative entries, else in [0, 2]; 0 for a list of fewer than two items.
    """
    unit = unit_rows(vectors)
    listed = lists >= 0
    num = listed.sum(axis=1)
    total = np.zeros((len(lists), unit.shape[1]))
    of_itself = np.zeros(len(lists))
    for items, there in zip(lists.T, listed.T, strict=True):  # a place at a time: no [U, K, F] array
        rows = unit[items] * there[:, None]
        total += rows
        of_itself += np.square(rows).sum(axis=1)
    similarity = (np.square(total).sum(axis=1) - of_itself) / np.maximum(num * (num - 1), 1)
    return np.where(num > 1, np.clip(1 - similarity, 0, 2), 0)


def unit_rows(vectors: Num[np.ndarray, "I F"]) -> Float[np.ndarray, "I F"]:
    """The vectors at length 1, in float64; a vector of zeros stays."""
    lengths = np.linalg.norm(np.asarray(vectors, np.float64), axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _mean_of_listed(lists: Lists, of_item: Num[np.ndarray, " I"] | Bool[np.ndarray, " I"]) -> Values:
    """Mean over each list of a number that every item has; 0 for an empty list."""
    listed = lists >= 0
    return np.where(listed, of_item[lists], 0).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)


def _among(lists: Lists, items: Integer[np.ndarray, "U R"]) -> Bool[np.ndarray, "U K"]:
    """Whether each listed item is among its user's `items`."""
    found = np.zeros(lists.shape, bool)
    for column in items.T:
        found |= lists == column[:, None]
    return found


def _some(exposed: Integer[np.ndarray, " I"]) -> Integer[np.ndarray, " I"]:
    """The counts, unless all are 0."""
    if not exposed.any():
        raise ValueError("Expected at least one item in the lists, got none.")
    return exposed
