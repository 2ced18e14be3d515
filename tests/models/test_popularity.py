"""What is special to popularity: it counts users, once each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.models import popularity
from jaxrec.types import Interactions

TRAIN = Interactions(  # user 3 has none, item 3 nobody has; user 0 has item 2 twice
    users=np.array([0, 0, 0, 1, 1, 2], np.int32), items=np.array([2, 2, 0, 2, 1, 2], np.int32), num_users=4, num_items=4
)


def test_scores_are_the_number_of_users_of_each_item_for_everyone():
    model = popularity.model(num_users=4, num_items=4)
    assert model.solve is not None
    params = model.solve(TRAIN, jax.random.key(0))
    np.testing.assert_array_equal(model.score_all(params, jnp.array([0, 3])), [[1, 1, 3, 0]] * 2)
    np.testing.assert_array_equal(params["tables"]["item"], [[1], [1], [3], [0]])


@pytest.mark.parametrize("name", ["num_users", "num_items"])
def test_wrong_sizes_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        popularity.model(**{"num_users": 2, "num_items": 2, name: 0})
