"""What hyperparameters may be. Each check takes them by name and names the one that is not; traced ones pass."""

import jax
import jax.core
import numpy as np

from jaxrec.types import Scalar


def non_negative(**values: Scalar) -> None:
    """Raises a ValueError unless every radius, weight or length is at least 0 and finite."""
    for name, value in _static(values):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"Expected {name} >= 0 and finite, got {name}={value}.")


def positive(**values: Scalar) -> None:
    """Raises a ValueError unless every rate, weight or length is positive and finite."""
    for name, value in _static(values):
        if not 0 < value < np.inf:
            raise ValueError(f"Expected {name} > 0 and finite, got {name}={value}.")


def radius(**values: Scalar) -> None:
    """Raises a ValueError unless every radius is at least 0; infinity is no limit."""
    for name, value in _static(values):
        if not value >= 0:
            raise ValueError(f"Expected {name} >= 0, got {name}={value}.")


def rates(**values: Scalar) -> None:
    """Raises a ValueError unless every rate is in [0, 1)."""
    for name, value in _static(values):
        if not 0 <= value < 1:
            raise ValueError(f"Expected {name} in [0, 1), got {name}={value}.")


def counts(**values: object) -> None:
    """Raises a ValueError unless every size or number of steps is a whole number of at least 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"Expected {name} >= 1, a whole number, got {name}={value}.")


def _static(values: dict[str, Scalar]) -> list[tuple[str, Scalar]]:
    return [(name, value) for name, value in values.items() if not isinstance(value, jax.core.Tracer)]
