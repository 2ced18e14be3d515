"""Filters of texts, read as rows of word embeddings, and their training against perturbed rows.

Miyato, Dai and Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification", ICLR 2017,
arXiv:1605.07725, perturb normalised word embeddings; the network is that of Iyyer, Manjunatha, Boyd-Graber and Daume
III, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", ACL 2015. To the loop a text is a
user, who has touched one item, its label.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import sklearn.linear_model
import sklearn.metrics

from jaxrec import checks, layers, losses, sequence_edits, texts
from jaxrec.defences import apr
from jaxrec.sequence_edits import EMPTY
from jaxrec.types import Array, Attack, EditAttack, EditOracle, Key, Objective, Params, Scalar, Surface

SCORED, EDITED = 256, 16  # texts at a time
STRENGTHS = (0.001, 0.003, 0.01, 0.03)  # scikit-learn's C of the linear filter


class TextClassifier(NamedTuple):
    """A filter as pure functions; texts are ids as in `texts.Part`.

    Attributes:
        init: (corpus, key) -> params; of `linear` they are fitted.
        embed: (params, ids [...]) -> rows [..., D], what the filter puts in for a word, and for -1.
        logits: (params, rows [..., L, D], present bool [..., L], key or None) -> [...], above 0 where it says that the
            text is to be stopped; with a key under dropout.
    """

    init: Callable[[texts.Corpus, Key], Params]
    embed: Callable[[Params, Array], Array]
    logits: Callable[[Params, Array, Array, Key | None], Array]


def linear(*, strengths: Sequence[float] = STRENGTHS) -> TextClassifier:
    """Builds scikit-learn's logistic regression on counts of words times inverse document frequencies.

    A word's row [1] is what it adds to the logit, whatever its place. Texts are not brought to length 1, so that the
    logit is a sum over words: what an edit gains is exact, and no k edits gain more than the k best, one by one.

    Args:
        strengths: scikit-learn's C, of which the validation texts choose one by the area under the ROC curve.
    """

    def counts(corpus: texts.Corpus, part: texts.Part) -> Any:
        rows, places = np.nonzero(part.ids != EMPTY)
        words = part.ids[rows, places]
        shape = (len(part.ids), len(corpus.vocabulary))
        return scipy.sparse.csr_matrix((corpus.idf[words], (rows, words)), shape)  # a word that comes twice adds up

    def init(corpus: texts.Corpus, key: Key) -> Params:
        del key
        train, valid = counts(corpus, corpus.train), counts(corpus, corpus.valid)
        regression: Any = functools.partial(sklearn.linear_model.LogisticRegression, max_iter=1000)
        fitted = [regression(C=strength).fit(train, corpus.train.labels) for strength in strengths]
        auc = lambda one: sklearn.metrics.roc_auc_score(corpus.valid.labels, one.decision_function(valid))
        best = max(fitted, key=auc)
        return {
            "tables": {"word": jnp.asarray(best.coef_[0] * corpus.idf, jnp.float32)[:, None]},
            "weights": {"bias": jnp.float32(best.intercept_[0])},
            "given": {},
        }

    def logits(params: Params, rows: Array, present: Array, key: Key | None) -> Array:
        del present, key
        return jnp.sum(rows, axis=(-2, -1)) + params["weights"]["bias"]

    return TextClassifier(init, lambda params, ids: _looked_up(params["tables"]["word"], ids), logits)


def averaging(*, dimension: int = 32, hidden: int = 64, dropout: float = 0.5) -> TextClassifier:
    """Builds a deep averaging network: the mean of a text's rows, a relu layer, a linear one.

        row of word w = (v_w - mean) / sd,  mean and variance of each coordinate over the words of the training texts

    Normalised so (Miyato et al., section 3), rows cannot outgrow a perturbation of a given length: an absolute epsilon
    and one relative to the rows, of which a word's has length sqrt(dimension) in the root mean square, are the same.

    Args:
        dimension, hidden: Of a row, and of the relu layer.
        dropout: Share of the rows' entries, and of the hidden ones, that training leaves out.

    Returns:
        The filter. A text without a known word has the logit of a mean of 0.

    Raises:
        ValueError: If a size is below 1, or `dropout` is not in [0, 1).
    """
    checks.rates(dropout=dropout)
    checks.counts(dimension=dimension, hidden=hidden)

    def init(corpus: texts.Corpus, key: Key) -> Params:
        word_key, hidden_key, top_key = jax.random.split(key, 3)
        return {
            "tables": {"word": jax.random.normal(word_key, (len(corpus.vocabulary), dimension))},
            "weights": {
                "hidden": layers.dense_layer(hidden_key, dimension, hidden),
                "top": layers.dense_layer(top_key, hidden, 1),
            },
            "given": {"frequency": jnp.asarray(corpus.frequency), "texts": jnp.asarray(corpus.train.ids)},
        }

    def embed(params: Params, ids: Array) -> Array:
        table, frequency = params["tables"]["word"], params["given"]["frequency"][:, None]
        centred = table - jnp.sum(frequency * table, axis=0, keepdims=True)
        variance = jnp.sum(frequency * centred**2, axis=0, keepdims=True)
        return _looked_up(centred * jax.lax.rsqrt(variance + 1e-12), ids)

    def logits(params: Params, rows: Array, present: Array, key: Key | None) -> Array:
        rows_key, hidden_key = (None, None) if key is None else jax.random.split(key)
        kept = jnp.where(present[..., None], layers.dropout(rows_key, rows, dropout), 0)
        mean = jnp.sum(kept, axis=-2) / jnp.maximum(jnp.sum(present, axis=-1, keepdims=True), 1)
        found = jax.nn.relu(layers.dense(params["weights"]["hidden"], mean))
        return layers.dense(params["weights"]["top"], layers.dropout(hidden_key, found, dropout))[..., 0]

    return TextClassifier(init, embed, logits)


def objective(*, classifier: TextClassifier, attack: Attack | None = None, adv_weight: Scalar = 1.0) -> Objective:
    """Builds the cross entropy of a batch, or that plus the cross entropy of attacked rows.

        mean over the batch of L(rows) + adv_weight * L(rows + delta),   delta = attack(rows)         (eq. 6 and 7)

    A text's rows, all of them together, are one vector in the attack's ball, as in the paper; delta is its own in each
    text that a word comes in.

    Args:
        attack: The paper's is `fgsm.attack(epsilon=5)`, in L2; None for L(rows) alone.
        adv_weight: 1 in the paper.

    Returns:
        `(params, batch, key, reduce) -> (loss [], metrics)`: `apr.objective` on the surface of the batch's own rows.
        The row of an empty place may move, and is not looked at.

    Raises:
        ValueError: If `adv_weight` is negative or not finite.
    """

    def on_rows(params, batch, key, reduce):
        del reduce
        rows, present = params["given"]["rows"], params["given"]["texts"][batch["users"]] != EMPTY
        logits = classifier.logits(params, rows, present, key)
        loss = losses.bce(logits, batch["pos"].astype(logits.dtype), batch["where"])
        return loss, {"loss": loss, "examples": jnp.sum(batch["where"])}

    def against(params, batch, key, reduce):
        ids = params["given"]["texts"][batch["users"]]
        surface = Surface(
            get=lambda params: classifier.embed(params, ids),
            put=lambda params, rows: {**params, "given": {**params["given"], "rows": rows}},
        )
        if attack is None:
            total, metrics = on_rows(surface.put(params, surface.get(params)), batch, key, reduce)
        else:
            attacked = apr.objective(clean=on_rows, attack=attack, surface=surface, adv_weight=adv_weight)
            total, metrics = attacked(params, batch, key, lambda tree: tree)  # other devices' rows are other texts'
        return total / reduce(metrics["examples"]), metrics

    return against


def oracle(classifier: TextClassifier, params: Params) -> EditOracle:
    """Of an adversary who knows the filter and wants a text past it: the loss to raise is minus the logit."""
    return sequence_edits.white_box(
        functools.partial(classifier.embed, params),
        lambda rows, present: -classifier.logits(params, rows, present, None),
        num_items=len(params["tables"]["word"]),
    )


def scores(classifier: TextClassifier, params: Params, ids: np.ndarray) -> np.ndarray:
    """The logits [N] of texts [N, L]."""
    return np.asarray(_scores(classifier, params, jnp.asarray(ids)))


@functools.partial(jax.jit, static_argnums=0)
def _scores(classifier: TextClassifier, params: Params, ids: Array) -> Array:
    of_one = lambda ids: classifier.logits(params, classifier.embed(params, ids), ids != EMPTY, None)
    return jax.lax.map(of_one, ids, batch_size=SCORED)


@functools.lru_cache(maxsize=16)
def editor(
    classifier: TextClassifier, make: Callable[[Array], EditAttack]
) -> Callable[[Params, np.ndarray, int, Key], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Builds `(params, ids [N, L], num_edits, key) -> (edited ids [N, L], info [N])`, compiled once for all of these.

    Args:
        make: num_edits, traced -> the attack, which is mounted on `oracle` for each text apart.
    """

    @jax.jit
    def on_chunk(params, ids, num_edits, keys):
        attack, on = make(num_edits), oracle(classifier, params)
        edited, info = jax.vmap(lambda key, ids: attack(key, on, ids))(keys, ids)
        return edited, {name: jnp.broadcast_to(value, len(ids)) for name, value in info.items()}

    def edit(params, ids, num_edits, key):
        found = []
        keys = jax.random.split(key, -(-len(ids) // EDITED) * EDITED)
        for start in range(0, len(ids), EDITED):
            rows = np.minimum(np.arange(start, start + EDITED), len(ids) - 1)  # the last text fills up its chunk
            found.append(jax.device_get(on_chunk(params, ids[rows], num_edits, keys[start : start + EDITED])))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(ids)], *found)

    return edit


def _looked_up(table: Array, ids: Array) -> Array:
    """Rows of a table [V, D], and zeros for -1."""
    return jnp.where((ids != EMPTY)[..., None], table[jnp.maximum(ids, 0)], 0)
