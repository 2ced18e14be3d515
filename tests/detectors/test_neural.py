"""The perceptron of the neural detector: its slopes against differences, its probabilities, and what it refuses."""

import numpy as np
import pytest

from jaxrec.detectors import neural


def fitted():
    """On two overlapping clouds of eight, in three features of which the last tells nothing."""
    rng = np.random.default_rng(0)
    is_fake = np.arange(16) < 8
    features = rng.normal(size=(16, 3)) * [1, 100, 1] + is_fake[:, None] * [2, 200, 0]
    features[:, 2] = 1
    return neural.Perceptron(hidden=4, num_steps=60).fit(features, is_fake), features, is_fake


def test_slopes_are_those_of_the_logits():
    perceptron, features, _ = fitted()
    slopes = perceptron.slopes(features)
    for place, size in enumerate((1e-2, 1.0, 1e-2)):
        step = size * np.eye(3)[place]
        difference = perceptron.decision_function(features + step) - perceptron.decision_function(features - step)
        np.testing.assert_allclose(difference / (2 * size), slopes[:, place], rtol=0.02, atol=2e-3 / size * 1e-2)
    assert np.abs(slopes[:, :2]).min() > 0


def test_labels_of_zero_and_one_are_those_of_false_and_true():
    """Cross-validation encodes the classes as 0 and 1, of whose integers the complements are -1 and -2."""
    perceptron, features, is_fake = fitted()
    again = neural.Perceptron(hidden=4, num_steps=60).fit(features, is_fake.astype(np.int64))
    np.testing.assert_array_equal(again.decision_function(features), perceptron.decision_function(features))


def test_probabilities_and_predictions_are_of_the_logits():
    perceptron, features, is_fake = fitted()
    logits = perceptron.decision_function(features)
    chance = perceptron.predict_proba(features)
    np.testing.assert_allclose(chance[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_allclose(chance.sum(axis=1), 1, rtol=1e-12)
    assert (perceptron.predict(features) == (logits > 0)).all()
    assert (perceptron.predict(features) == is_fake).mean() > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "Expected hidden >= 1, a whole number, got hidden=0"),
        ({"num_steps": -3}, "Expected num_steps >= 1, a whole number, got num_steps=-3"),
        ({"num_folds": 1}, "Expected num_targets >= 1 and num_folds >= 2, got 5 and 1"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_when_it_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        neural.detector(**options)
