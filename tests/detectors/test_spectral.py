"""The spectral detector: what its suspicion is, and what it refuses."""

import numpy as np
import pytest
import shilled

from jaxrec import profiles
from jaxrec.detectors import spectral


def test_suspicion_is_the_share_of_a_profile_outside_the_main_directions():
    both, _ = shilled.contaminated("ratings")
    table = profiles.ratings(both).toarray()
    left, right = (np.sqrt(np.maximum(table.sum(axis=axis), 1e-300)) for axis in (1, 0))
    scaled = table / left[:, None] / right[None]
    main = np.linalg.svd(scaled)[2][:3]
    has = table.any(axis=1)
    outside = 1 - np.square(scaled @ main.T).sum(axis=1)[has] / np.square(scaled).sum(axis=1)[has]
    found = spectral.detector()(both)
    np.testing.assert_allclose(found[has], outside, atol=1e-9)
    assert found[~has].tolist() == [0.0] * (~has).sum() != []


@pytest.mark.parametrize("num", [0, -2])
def test_no_components_are_refused_when_it_is_built(num):
    with pytest.raises(ValueError, match=f"Expected num_components >= 1, a whole number, got num_components={num}"):
        spectral.detector(num_components=num)


def test_more_components_than_the_data_have_are_refused():
    with pytest.raises(ValueError, match=r"num_components < users and items \(80, 150\), got 80"):
        spectral.detector(num_components=80)(shilled.real("implicit"))
