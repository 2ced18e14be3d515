"""Fillers learned by exact implicit gradients: the surrogate is solved, and its solution differentiated, exactly.

The bilevel attack of Tang, Wen and Wang, "Revisiting Adversarially Learned Injection Attacks Against Recommender
Systems", RecSys 2020, arXiv:2008.04876, on surrogates whose training has a closed form, by the implicit function
theorem instead of unrolled steps.
"""

import numpy as np

from jaxrec import fake_rows
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.injection import Surrogate
from jaxrec.inner import ease
from jaxrec.types import Poison


def attack(
    *,
    num_fakes: int,
    num_fillers: int = 50,
    direction: Direction = "push",
    allowed: np.ndarray | None = None,
    surrogate: Surrogate | None = None,
    num_steps: int = 20,
    step_size: float = 1.0,
    temperature: float = 0.1,
) -> Poison:
    """Builds the attack of one who knows the data, and trains a recommender of their own.

    Args:
        num_fakes, num_fillers, direction, allowed: As in `fake_profiles.Budget`.
        surrogate: `inner.ease.surrogate()` by default; `inner.ials.surrogate` is the other exact one.
        num_steps, step_size, temperature: As in `fake_rows.attack`.

    Returns:
        `(key, interactions, targets) -> fakes`.

    Raises:
        ValueError: As `fake_profiles.Budget` and `fake_rows.attack`.
    """
    return fake_rows.attack(
        Budget(num_fakes, num_fillers, direction, allowed),
        ease.surrogate() if surrogate is None else surrogate,
        num_steps=num_steps,
        step_size=step_size,
        temperature=temperature,
    )
