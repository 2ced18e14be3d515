"""What hyperparameters may be, and how what may not is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import checks

ANY = {
    "non_negative": (0, 0.0, 3, np.float64(1.5)),
    "positive": (1e-9, 3),
    "radius": (0, 2.5, float("inf")),
    "rates": (0, 0.99),
}
NONE = {
    "non_negative": (-1e-9, float("nan"), float("inf"), -float("inf")),
    "positive": (0, -1, float("nan"), float("inf")),
    "radius": (-1e-9, float("nan")),
    "rates": (-0.1, 1, float("nan")),
}


@pytest.mark.parametrize("name", ANY)
def test_what_may_be_passes_and_so_does_what_is_traced(name):
    check = getattr(checks, name)
    for value in ANY[name]:
        check(one=value, another=jnp.float32(value))

    @jax.jit
    def traced(value):
        check(value=value)
        return value

    assert float(traced(-1.0)) == -1


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NONE.items() for value in values])
def test_what_may_not_be_is_named_among_others(name, value):
    with pytest.raises(ValueError, match=f"Expected step_size .*, got step_size={value}"):
        getattr(checks, name)(fine=ANY[name][0] or 0.5, step_size=value)


@pytest.mark.parametrize("value", [0, -3, 1.0, True, None, "2"])
def test_a_count_is_a_whole_number_of_at_least_one(value):
    checks.counts(num_steps=1, num_users=np.int32(7))
    with pytest.raises(ValueError, match=f"Expected num_steps >= 1, a whole number, got num_steps={value}"):
        checks.counts(num_users=7, num_steps=value)
