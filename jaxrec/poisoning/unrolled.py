"""RevAdv: fillers learned by gradients through the training steps of a surrogate.

Tang, Wen and Wang, "Revisiting Adversarially Learned Injection Attacks Against Recommender Systems", RecSys 2020,
arXiv:2008.04876: weighted matrix factorisation, of whose steps the last ten are unrolled.
"""

import numpy as np

from jaxrec import fake_rows
from jaxrec.fake_profiles import Budget, Direction
from jaxrec.injection import Surrogate
from jaxrec.inner import unrolled
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
        surrogate: `inner.unrolled.surrogate(unrolled_steps=10)` by default, which also has the truncated and the
            first-order variants.
        num_steps, step_size, temperature: As in `fake_rows.attack`.

    Returns:
        `(key, interactions, targets) -> fakes`.

    Raises:
        ValueError: As `fake_profiles.Budget` and `fake_rows.attack`.
    """
    return fake_rows.attack(
        Budget(num_fakes, num_fillers, direction, allowed),
        unrolled.surrogate(unrolled_steps=10) if surrogate is None else surrogate,
        num_steps=num_steps,
        step_size=step_size,
        temperature=temperature,
    )
