"""Whom the adapted attack pushes."""

import numpy as np

from jaxrec import bagging
from jaxrec.studies import pore_study, study
from jaxrec.studies.pore_study import Setting
from jaxrec.types import Interactions, Split


def test_runners_up_are_what_most_votes_miss_a_list_with_and_nobody_wants_there():
    """Lists of two. Item 2 stands third for both users, but is relevant to user 1; item 3 is fourth for both."""
    votes = np.array([[9, 8, 4, 3, 0, 7], [9, 8, 6, 5, 1, 0]])
    known = Interactions(np.array([0], np.int32), np.array([5], np.int32), 2, 6)
    held_out = Interactions(np.array([0, 1], np.int32), np.array([0, 2], np.int32), 2, 6)
    setting = Setting(None, known, held_out, bagging.Ensemble(1), 9, 2, 0.001, 0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(pore_study.runners_up(setting, votes, 2), [2, 3])
    np.testing.assert_array_equal(pore_study.runners_up(setting, votes, 1), [3])  # 3 + 5 votes against 4
    np.testing.assert_array_equal(pore_study.listed(setting, votes), [1, 0])


def test_of_one_user_a_record_has_no_interval():
    known = Interactions(np.array([0], np.int32), np.array([2], np.int32), 1, 3)
    held_out = Interactions(np.array([0], np.int32), np.array([1], np.int32), 1, 3)
    data = study.Data(Split(known, known, held_out), "drawn", "drawn", "drawn", {"sha256": "x"})
    setting = Setting(data, known, held_out, bagging.Ensemble(1), 9, 2, 0.001, 0)
    made = pore_study.records_of("pore", setting, {(None, 0): np.array([1])})
    assert {(record.metric, record.value, record.interval) for record in made} == {
        ("precision", 0.5, None), ("recall", 1.0, None), ("f1", 2 / 3, None)
    }  # fmt: skip
