"""A classifier with labels, and one that makes its own fakes, on published targets of shilling attacks too."""

import jax
import numpy as np
import pytest
import shilled
import sklearn.metrics

from jaxrec import fake_profiles
from jaxrec.datasets import shilling
from jaxrec.detectors import classifier, pca
from jaxrec.poisoning import average, random_ratings
from jaxrec.types import Interactions


def test_what_labels_teach_holds_for_fakes_that_come_later():
    labelled, is_fake = shilled.contaminated("ratings")
    fitted = classifier.fit(labelled, is_fake)
    known = shilled.real("ratings")
    fakes = random_ratings.attack(num_fakes=8, num_fillers=40)(jax.random.key(5), known, np.array([130]))
    later = fake_profiles.contaminate(known, fakes)
    assert sklearn.metrics.roc_auc_score(fake_profiles.is_fake(later, fakes), fitted(later)) > 0.9


def test_no_attacker_who_counts_seeds_has_the_keys_of_the_defender():
    """Else the classifier would learn from the very fakes that it is asked about."""
    own = []

    def make(num_fakes):
        poison = random_ratings.attack(num_fakes=num_fakes, num_fillers=40)
        return [lambda key, *data: own.append(key) or poison(key, *data)] * 4

    classifier.detector(make=make)(shilled.real("ratings"))
    seeds = [jax.random.key(seed) for seed in range(10)]
    others = [*seeds, *(jax.random.fold_in(seed, place) for seed in seeds for place in range(10))]
    data = lambda keys: {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
    assert len(data(own)) == 4
    assert not data(own) & data(others)


@pytest.mark.parametrize("num_items", range(1, 10))
def test_the_defenders_own_fakes_fit_small_catalogues(num_items):
    """Of which targets, which are no fillers, may be more than half."""
    items = np.concatenate([np.arange(max(1, num_items // 2))] * 9).astype(np.int32)
    users = np.repeat(np.arange(9, dtype=np.int32), max(1, num_items // 2))
    joined, is_fake = classifier.with_own_fakes(Interactions(users, items, 9, num_items))
    assert is_fake.sum() > 0
    assert joined.num_users == 9 + is_fake.sum()


@pytest.mark.parametrize("fakes", [[], range(80), [0, 81]])
def test_labels_of_one_kind_or_of_another_length_are_refused(fakes):
    known = shilled.real("ratings")
    is_fake = np.isin(np.arange(82 if 81 in fakes else 80), list(fakes))
    with pytest.raises(ValueError, match="Expected is_fake of 80 users of both kinds"):
        classifier.fit(known, is_fake)


@pytest.mark.parametrize("method", [random_ratings, average])
def test_five_percent_of_fakes_on_the_published_targets_of_filmtrust_are_found(data_dir, method):
    """The set has targets and what is rated beside them, and no profiles: fakes are made for its first five."""
    published = shilling.load(data_dir / "shilling-attack", "filmTrust")
    known = published.split.train
    fakes = method.attack(num_fakes=39, num_fillers=36)(jax.random.key(0), known, published.targets[:5])
    both = fake_profiles.contaminate(known, fakes)
    is_fake = fake_profiles.is_fake(both, fakes)
    for detector in (pca.detector(), classifier.detector()):
        assert sklearn.metrics.roc_auc_score(is_fake, detector(both)) > 0.85
