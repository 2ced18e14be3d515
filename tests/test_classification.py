"""The definitions, by slow loops in float64 over random answers with ties, and the cases scikit-learn leaves open."""

import itertools

import numpy as np
import pytest
import sklearn.metrics

from jaxrec import classification


def of_class(labels, predicted, number):
    """(precision, recall, F1) of one class, 0 where the divisor is."""
    pairs = list(zip(labels, predicted, strict=True))
    right = sum(label == answer == number for label, answer in pairs)
    said, there = sum(answer == number for _, answer in pairs), sum(label == number for label, _ in pairs)
    return right / max(said, 1), right / max(there, 1), 2 * right / max(said + there, 1)


def area_of_steps(relevant, logits):
    """Average precision: at each distinct threshold, from above, precision times what it adds to recall."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(logits), reverse=True):
        said = [r for r, logit in zip(relevant, logits, strict=True) if logit >= threshold]
        recall = sum(said) / sum(relevant)
        area, before = area + (recall - before) * sum(said) / len(said), recall
    return area


@pytest.mark.parametrize("seed", range(4))
def test_binary_measures_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    relevant, logits = rng.integers(0, 2, 60), rng.integers(-3, 4, 60).astype(float)  # seven values: many ties
    found = classification.binary(relevant, logits)
    yes, no = logits[relevant == 1], logits[relevant == 0]
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(yes, no)]
    precision, recall, f1 = of_class(relevant, logits > 0, 1)
    expected = {
        "accuracy": np.mean((logits > 0) == (relevant == 1)),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": np.mean(pairs),
        "pr_auc": area_of_steps(relevant.tolist(), logits.tolist()),
    }
    assert found == pytest.approx(expected, rel=1e-12)
    rates = sklearn.metrics.roc_curve(relevant, logits)
    assert found["roc_auc"] == pytest.approx(sklearn.metrics.auc(*rates[:2]), rel=1e-12)


@pytest.mark.parametrize(
    ("relevant", "logits", "expected"),
    [
        ([1, 1], [1.0, -1.0], (0.5, 1.0, 0.5, 2 / 3)),
        ([0, 0], [1.0, -1.0], (0.5, 0.0, 0.0, 0.0)),
        ([0, 0], [-1.0, -1.0], (1.0, 0.0, 0.0, 0.0)),
        ([0, 1], [0.0, 0.0], (0.5, 0.0, 0.0, 0.0)),  # one half is no yes
    ],
)
def test_binary_edges(relevant, logits, expected):
    found = classification.binary(np.array(relevant), np.array(logits))
    assert tuple(found.values())[:4] == pytest.approx(expected)
    areas = {name: value for name, value in found.items() if name.endswith("auc")}
    assert areas == ({"roc_auc": 0.5, "pr_auc": 0.5} if len(set(relevant)) == 2 else {})


@pytest.mark.parametrize("seed", range(4))
def test_multiclass_measures_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    labels, logits = rng.integers(0, 4, 40), rng.integers(-1, 2, (40, 6)).astype(float)
    logits[:, 5] = -9  # class 4 is never true but predicted, class 5 is neither
    predicted = [max(range(6), key=lambda c, row=row: (row[c], -c)) for row in logits]
    present = sorted(set(labels.tolist()) | set(predicted))
    assert 4 in present
    assert 5 not in present
    found = classification.multiclass(labels, logits)
    macro = np.mean([of_class(labels.tolist(), predicted, number) for number in present], axis=0)
    assert [found[f"macro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(macro, rel=1e-12)
    accuracy = np.mean(labels == predicted)
    assert found["accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert [found[f"micro_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx([accuracy] * 3)


def test_one_class_alone_is_all_right_or_all_wrong():
    logits = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert set(classification.multiclass(np.array([0, 0]), logits).values()) == {1.0}
    assert set(classification.multiclass(np.array([1, 1]), logits).values()) == {0.0}


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels in \[0, 2\)"):
        classification.binary(np.array(labels), np.zeros(2))
    with pytest.raises(ValueError, match=r"labels in \[0, 2\)"):
        classification.multiclass(np.array(labels), np.zeros((2, 2)))


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        classification.binary(np.zeros(0, int), np.zeros(0))
