"""Of scores as answers to yes or no, or to which class: accuracy, precision, recall, F1, and areas under curves.

All of it is scikit-learn's (https://scikit-learn.org/stable/modules/model_evaluation.html); what stands here is what it
leaves to the caller: what counts as yes, which classes there are, and what is said where a measure is not defined. The
curves themselves are `sklearn.metrics.roc_curve` and `precision_recall_curve`, weights of classes by number
`losses.balanced_weights`.
"""

from __future__ import annotations

import numpy as np
import sklearn.metrics
from jaxtyping import Bool, Float, Integer


def binary(
    relevant: Integer[np.ndarray, " N"] | Bool[np.ndarray, " N"], logits: Float[np.ndarray, " N"]
) -> dict[str, float]:
    """Measures of logits against what is true, as of a click model.

    Args:
        relevant: 0 or 1.
        logits: Finite; above 0, a probability above one half, is a yes.

    Returns:
        {"accuracy", "precision", "recall", "f1"} of the yes class (0 where nothing was said or is yes),
        {"roc_auc", "pr_auc"} where both classes are there, and neither where one is missing: there is nothing to tell
        apart. Of equal scores a pair counts half in `roc_auc`. `pr_auc` is the average precision, the area under the
        steps: a straight line between points of that curve would be too high (Davis and Goadrich, ICML 2006).

    Raises:
        ValueError: If there is no example, or `relevant` holds other numbers.
    """
    _check(relevant, 2)
    predicted = logits > 0
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        relevant.astype(bool),
        predicted,
        average="binary",
        zero_division=0,  # type: ignore[arg-type]  # its stub knows "warn" alone
    )
    found = {
        "accuracy": float(np.mean(predicted == relevant.astype(bool))),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }
    if 0 < np.count_nonzero(relevant) < len(relevant):
        found["roc_auc"] = float(sklearn.metrics.roc_auc_score(relevant, logits))
        found["pr_auc"] = float(sklearn.metrics.average_precision_score(relevant, logits))
    return found


def multiclass(labels: Integer[np.ndarray, " N"], logits: Float[np.ndarray, "N C"]) -> dict[str, float]:
    """Measures of the class with the highest logit (the first of those that tie) against the true one.

    Args:
        labels: In [0, C).
        logits: One for each class.

    Returns:
        {"accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_precision", "micro_recall", "micro_f1"}.
        Macro is the plain mean over those of the C classes that are true of an example or were predicted of one; a
        class that only one of the two has counts 0. With one label an example the three micro values are the accuracy.

    Raises:
        ValueError: If there is no example, or a label is out of range.
    """
    _check(labels, logits.shape[1])
    predicted = logits.argmax(axis=1)
    found = {"accuracy": float(np.mean(predicted == labels))}
    for average in ("macro", "micro"):
        values = sklearn.metrics.precision_recall_fscore_support(
            labels,
            predicted,
            average=average,
            zero_division=0,  # type: ignore[arg-type]  # its stub knows "warn" alone
        )
        names = (f"{average}_{name}" for name in ("precision", "recall", "f1"))
        found.update(zip(names, map(float, values[:3]), strict=True))
    return found


def _check(labels: np.ndarray, num_classes: int) -> None:
    """Raises a ValueError unless there is a label, and all are of that many classes."""
    if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        got = f"from {labels.min()} to {labels.max()}" if len(labels) else "none"
        raise ValueError(f"Expected labels in [0, {num_classes}), at least one, got {got}.")
