"""What each of the classical attacks knows and rates, on data where that can be told apart."""

import jax
import numpy as np
import pytest

from jaxrec.poisoning import average, bandwagon, love_hate, random_ratings, reverse_bandwagon, segment
from jaxrec.types import Interactions

NUM_ITEMS, TARGETS = 12, np.array([11])


def data(*, implicit=False):
    """Items 0 to 3 are popular: 0 and 1 loved, 2 and 3 hated, 3 the most; the lovers of 10 alone have target 11."""
    pairs = [(user, item) for item in range(4) for user in range(20)]
    pairs += [(user, item) for item in range(4, 10) for user in range(item - 3)]
    pairs += [(user, item) for item in (10, 11) for user in range(15, 18)]
    users, items = np.array(pairs, np.int32).T
    liked = np.array([5, 5, 2, 1, 3, 3, 3, 3, 3, 3, 5, 5], np.float32)
    return Interactions(users, items, 20, NUM_ITEMS, ratings=None if implicit else liked[items])


def parts(attack, *, implicit=False, targets=TARGETS):
    """{item: its ratings in all the profiles}; of implicit feedback, Nones."""
    fakes = attack(jax.random.key(0), data(implicit=implicit), targets)
    ratings = fakes.ratings.tolist() if fakes.ratings is not None else [None] * len(fakes)
    found = {}
    for item, rating in zip(fakes.items.tolist(), ratings, strict=True):
        found.setdefault(item, []).append(rating)
    return found


def means(found):
    return {item: np.mean(ratings) for item, ratings in found.items()}


def test_random_ratings_have_one_mean_and_average_ones_each_item_its_own():
    everything = NUM_ITEMS - 1  # fillers
    same, own = (
        means(parts(method.attack(num_fakes=20, num_fillers=everything))) for method in (random_ratings, average)
    )
    overall = data().ratings.mean()
    assert own[0] > overall + 0.7
    assert own[3] < overall - 0.7
    assert abs(same[0] - same[3]) < 0.7 * abs(own[0] - own[3])
    # Three standard errors of 220 ratings, and what the ends of the scale cut off.
    assert (
        abs(np.mean([same[item] for item in range(everything)]) - overall) < 3 * data().ratings.std() / 220**0.5 + 0.2
    )


def test_average_fakes_of_implicit_feedback_have_what_is_popular():
    found = parts(average.attack(num_fakes=20, num_fillers=4), implicit=True)
    popular, others = (sum(len(found.get(item, [])) for item in items) for items in (range(4), range(4, 8)))
    assert popular > 2 * others


@pytest.mark.parametrize("implicit", [False, True])
def test_bandwagon_has_the_most_popular_items_rated_highest(implicit):
    found = parts(bandwagon.attack(num_fakes=5, num_fillers=2, num_selected=4), implicit=implicit)
    assert all(found[item] == [None if implicit else 5.0] * 5 for item in range(4))


def test_reverse_bandwagon_has_disliked_items_that_many_know_and_else_the_rarest():
    found = parts(reverse_bandwagon.attack(num_fakes=5, num_fillers=0, num_selected=1))
    assert set(found) == {11, 2}  # of the fifth best known, 0 to 2, the worst liked; 3 is liked less, and further down
    assert found[2] == [1.0] * 5
    assert set(parts(reverse_bandwagon.attack(num_fakes=5, num_fillers=0, num_selected=2), implicit=True)) == {4, 5}


def test_a_segment_is_what_the_audience_of_the_targets_has():
    found = parts(segment.attack(num_fakes=5, num_fillers=3, num_selected=1))
    assert found[10] == found[11] == [5.0] * 5
    assert {rating for item, ratings in found.items() if item < 10 for rating in ratings} == {1.0}
    assert set(parts(segment.attack(num_fakes=2, num_fillers=0, num_selected=1, direction="nuke"), implicit=True)) == {
        10
    }


@pytest.mark.parametrize(("direction", "target", "others"), [("nuke", 1.0, 5.0), ("push", 5.0, 1.0)])
def test_love_and_hate_are_the_ends_of_the_scale(direction, target, others):
    found = parts(love_hate.attack(num_fakes=5, num_fillers=3, direction=direction))
    assert found.pop(11) == [target] * 5
    assert {rating for ratings in found.values() for rating in ratings} == {others}
