"""Formulas with the numbers of the case, and scikit-learn."""

import math

import numpy as np
import pytest
import sklearn.metrics

from jaxrec import rating_metrics


def test_predictions_are_cut_to_the_scale_first():
    found = rating_metrics.errors(np.float32([-7, 9, 4.5]), np.float32([1, 5, 3]))
    assert found == {"mse": 1.5**2 / 3, "rmse": pytest.approx(math.sqrt(1.5**2 / 3)), "mae": 1.5 / 3}
    uncut = rating_metrics.errors(np.float32([-7, 9]), np.float32([1, 5]), scale=(-np.inf, np.inf))
    assert uncut["mae"] == (8 + 4) / 2


def test_errors_equal_scikit_learns():
    rng = np.random.default_rng(0)
    predicted, ratings = rng.normal(3, 2, 200), rng.integers(1, 6, 200).astype(float)
    found, cut = rating_metrics.errors(predicted, ratings), np.clip(predicted, 1, 5)
    assert found["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(ratings, cut), rel=1e-12)
    assert found["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(ratings, cut), rel=1e-12)
    assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(ratings, cut), rel=1e-12)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_a_prediction_that_is_not_finite_is_refused_and_not_cut(wrong):
    with pytest.raises(ValueError, match="finite predictions, got 1"):
        rating_metrics.errors(np.float32([3, wrong]), np.float32([3, 5]))


def test_there_must_be_ratings():
    with pytest.raises(ValueError, match="at least one"):
        rating_metrics.errors(np.zeros(0, np.float32), np.zeros(0, np.float32))
