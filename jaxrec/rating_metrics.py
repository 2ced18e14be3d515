"""How far predicted ratings are from the true ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SCALE = (1.0, 5.0)  # stars of MovieLens


def errors(
    predicted: Float[np.ndarray, " N"], ratings: Float[np.ndarray, " N"], *, scale: tuple[float, float] = SCALE
) -> dict[str, float]:
    """MSE, RMSE and MAE of predictions that are first cut to the ratings' scale.

    A model is not charged for a prediction of 5.3 where 5 is the most that can be shown; published figures differ in
    this. `scale=(-inf, inf)` takes the predictions as they are.

    Returns:
        {"mse", "rmse", "mae"}, in float64.

    Raises:
        ValueError: If there are no ratings, or a prediction is not finite: cut to the scale it would look good.
    """
    if not len(ratings):
        raise ValueError("Expected ratings and predictions of them, at least one, got none.")
    if not np.isfinite(predicted).all():
        raise ValueError(f"Expected finite predictions, got {(~np.isfinite(predicted)).sum()} that are not.")
    difference = np.clip(predicted.astype(np.float64), *scale) - ratings
    mse = float(np.mean(difference**2))
    return {"mse": mse, "rmse": mse**0.5, "mae": float(np.mean(np.abs(difference)))}
