"""Who is nearest whom: the k most similar rows of each row of a sparse matrix, for models of neighbours. On the host.

Settings as in Ferrari Dacrema, Cremonesi and Jannach, "Are We Really Making Much Progress?", RecSys 2019,
arXiv:1907.06902, and its code: cosine with shrinkage, symmetric or not (Aiolli, "Efficient Top-N Recommendation for
Very Large Scale Binary Rated Datasets", RecSys 2013), of interactions that are weighted or not.
"""

from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse

from jaxrec import checks

Weighting = Literal["none", "tfidf", "bm25"]


class Nearest(NamedTuple):
    """The nearest rows of each row, best first: of equally similar ones the lower number first.

    Attributes:
        ids: int32 [rows, k], -1 in the places that are left over: only similarities above 0 count.
        similarities: float32 [rows, k], 0 in the places that are left over.
    """

    ids: np.ndarray
    similarities: np.ndarray


def check(num_neighbours: int, shrinkage: float, asymmetry: float, weighting: str) -> None:
    """Raises a ValueError unless the settings are those of `nearest` and `weighted`."""
    checks.counts(num_neighbours=num_neighbours)
    checks.non_negative(shrinkage=shrinkage)
    if not 0 <= asymmetry <= 1:
        raise ValueError(f"Expected asymmetry in [0, 1], got asymmetry={asymmetry}.")
    if weighting not in ("none", "tfidf", "bm25"):
        raise ValueError(f'Expected weighting "none", "tfidf" or "bm25", got weighting={weighting!r}.')


def weighted(pairs: scipy.sparse.csr_array, weighting: Weighting) -> scipy.sparse.csr_array:
    """The pairs of ones [rows, columns] with the weights of documents (rows) and terms (columns).

        tfidf   idf = log(rows / (1 + rows that have the term)), not below 0
        bm25    idf * 2.2 / (1 + 1.2 * (.25 + .75 * terms of the document / their mean))        (k1 1.2, b .75)

    Where the code named above lets idf fall below 0, for a term in nearly every row, it is 0 here.
    """
    if weighting == "none":
        return pairs
    lengths = np.diff(pairs.indptr)
    idf = np.maximum(np.log(len(lengths) / (1 + np.bincount(pairs.indices))), 0)
    values = idf[pairs.indices]
    if weighting == "bm25":
        by_length = 2.2 / (1 + 1.2 * (0.25 + 0.75 * lengths / max(lengths.mean(), 1e-9)))
        values = values * np.repeat(by_length, lengths)
    return scipy.sparse.csr_array((values.astype(np.float32), pairs.indices, pairs.indptr), shape=pairs.shape)


def nearest(
    vectors: scipy.sparse.csr_array,
    *,
    num_neighbours: int,
    shrinkage: float = 0.0,
    asymmetry: float = 0.5,
    chunk_size: int = 512,
) -> Nearest:
    """The nearest rows of each row x, itself left out, by

        x . y / (|x|^(2 * asymmetry) * |y|^(2 - 2 * asymmetry) + shrinkage)

    which is the cosine where asymmetry is a half and shrinkage 0.

    Args:
        vectors: [rows, columns]; no [rows, rows] array is made, but one of [chunk_size, rows].
        num_neighbours: k, at most; less where there are fewer other rows.
    """
    num = len(vectors.indptr) - 1
    k = max(min(num_neighbours, num - 1), 1)
    lengths = np.sqrt(vectors.multiply(vectors).sum(axis=1)).ravel()
    of_row, of_other = lengths ** (2 * asymmetry), lengths ** (2 - 2 * asymmetry)
    ids, similarities = np.full((num, k), -1, np.int32), np.zeros((num, k), np.float32)
    transposed = vectors.T.tocsr()
    for first in range(0, num, chunk_size):
        rows = slice(first, min(first + chunk_size, num))
        products = (vectors[rows] @ transposed).toarray()
        below = of_row[rows, None] * of_other[None] + shrinkage
        found = np.divide(products, below, out=np.zeros_like(products), where=below > 0)
        found[np.arange(len(found)), np.arange(num)[rows]] = 0
        ids[rows], similarities[rows] = _largest(found, k)
    return Nearest(ids, similarities)


def _largest(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of the k largest of each row that are above 0, best first; -1 and 0 where there are fewer."""
    threshold = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
    rows, columns = np.nonzero((values >= threshold) & (values > 0))  # more than k where the last of them tie
    order = np.lexsort((columns, -values[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    counts = np.bincount(rows, minlength=len(values))
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    rows, columns, places = rows[places < k], columns[places < k], places[places < k]
    ids, best = np.full((len(values), k), -1, np.int32), np.zeros((len(values), k), np.float32)
    ids[rows, places], best[rows, places] = columns, values[rows, columns]
    return ids, best
