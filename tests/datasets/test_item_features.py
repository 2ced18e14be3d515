"""Features of items: as in the file, or of the items that are asked for."""

import numpy as np
import pytest

from jaxrec import types
from jaxrec.datasets import item_features


def test_features_as_in_the_file_and_in_a_given_order(tmp_path):
    path = tmp_path / "features.csv"
    path.write_bytes(b"item_id,f0,f1\n30,0.5,-1\n10,1e-3,2.25\n20,3.4028234e38,1e-60\n")
    read = item_features.load(path)
    assert read.item_ids.tolist() == [30, 10, 20]
    assert read.features.dtype == np.float32
    np.testing.assert_array_equal(read.features, np.array([[0.5, -1], [1e-3, 2.25], [3.4028234e38, 0]], np.float32))
    some = item_features.load(path, item_ids=np.array([10, 30]))
    np.testing.assert_array_equal(some.features, read.features[[1, 0]])


@pytest.mark.parametrize("absent", [5, 15, 99])
def test_an_item_without_features_is_named(tmp_path, absent):
    path = tmp_path / "features.csv"
    path.write_bytes(b"item,f0\n30,0.5\n10,1\n")
    with pytest.raises(types.InputError, match=rf"features\.csv:3:1: .* none for 1 of 2 items, such as {absent}$"):
        item_features.load(path, item_ids=np.array([10, absent]))
