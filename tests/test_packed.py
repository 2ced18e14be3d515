"""Dense rows of the data as bits."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec import packed
from jaxrec.types import Interactions

PAIRS = np.random.default_rng(0).random((7, 11)) < 0.4
KNOWN = Interactions(*(ids.astype(np.int32) for ids in np.nonzero(PAIRS)), num_users=7, num_items=11)


@pytest.mark.parametrize("chunk_size", [3, 7, 100])
def test_unpacked_rows_are_the_data_and_what_is_left_over_is_empty(chunk_size):
    rows = packed.rows(KNOWN, chunk_size)
    assert rows.users.shape[1] <= chunk_size
    dense = np.asarray(packed.unpack(rows.bits, 11)).reshape(-1, 11)
    np.testing.assert_array_equal(dense[:7], PAIRS)
    assert not dense[7:].any()
    assert rows.users.reshape(-1).tolist() == [*range(7), *[0] * (len(dense) - 7)]
    assert np.asarray(rows.present).reshape(-1).tolist() == [*[True] * 7, *[False] * (len(dense) - 7)]


def test_a_table_is_dealt_to_chunks_as_the_users_are():
    rows = packed.rows(KNOWN, 3)
    dealt = packed.by_chunk(jnp.arange(14.0).reshape(7, 2), rows)
    assert dealt.shape == (3, 3, 2)
    np.testing.assert_array_equal(dealt.reshape(9, 2)[:7], np.arange(14.0).reshape(7, 2))
    np.testing.assert_array_equal(dealt.reshape(9, 2)[7:], 0)
