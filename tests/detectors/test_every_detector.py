"""The laws of every detector, each found by its file: a finite number a user, and fakes above real users."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import shilled
import sklearn.metrics

from jaxrec import detectors, provenance
from jaxrec.types import Detector, Interactions

METHODS = {
    name: module.detector
    for name in (info.name for info in pkgutil.iter_modules(detectors.__path__))
    if hasattr(module := importlib.import_module(f"jaxrec.detectors.{name}"), "detector")
}
every_detector = pytest.mark.parametrize("method", METHODS)
every_kind = pytest.mark.parametrize("kind", ["ratings", "implicit"])


def test_the_folder_is_read():
    assert {"pca", "isolation_forest", "classifier", "neural", "spectral"} <= set(METHODS)


@every_detector
def test_it_has_the_shape_and_every_hyperparameter_has_a_default(method):
    assert isinstance(METHODS[method](), Detector)
    for name, parameter in inspect.signature(METHODS[method]).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert parameter.default is not parameter.empty, name


@every_detector
@every_kind
def test_random_fakes_look_more_like_fakes_than_real_users_do(method, kind):
    both, is_fake = shilled.contaminated(kind)
    before = provenance.fingerprint(both)
    suspicion = METHODS[method]()(both)
    assert suspicion.shape == (shilled.NUM_USERS + shilled.NUM_FAKES,)
    assert np.isfinite(suspicion).all()
    assert sklearn.metrics.roc_auc_score(is_fake, suspicion) > 0.8
    assert provenance.fingerprint(both) == before
    np.testing.assert_array_equal(suspicion, METHODS[method]()(both))


@every_detector
def test_who_is_a_fake_is_not_told_by_the_number_of_a_user(method):
    """Fakes that come first, and in another order, are found as well: a detector knows profiles alone."""
    both, is_fake = shilled.contaminated("ratings")
    places = np.random.default_rng(1).permutation(both.num_users)
    moved = Interactions(
        places[both.users].astype(np.int32), both.items, both.num_users, both.num_items, ratings=both.ratings
    )
    suspicion = METHODS[method]()(moved)[places]
    assert sklearn.metrics.roc_auc_score(is_fake, suspicion) > 0.8
