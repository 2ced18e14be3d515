"""What is left of the data when suspicious users are left out, or count for less."""

import jax
import numpy as np
import pytest

from jaxrec import objectives, provenance, recovery
from jaxrec.models import ease, mf
from jaxrec.types import Interactions

DATA = Interactions(np.repeat(np.arange(10, dtype=np.int32), 40), np.tile(np.arange(40, dtype=np.int32), 10), 10, 40)
SUSPICION = np.array([0.3, 0.1, 0.9, 0.2, 0.0, 0.9, 0.4, 0.5, 0.6, 0.7])


def test_the_most_suspicious_users_are_left_out_and_all_keep_their_numbers():
    left = recovery.remove(DATA, SUSPICION, share=0.2)
    assert sorted(set(left.users.tolist())) == [0, 1, 3, 4, 6, 7, 8, 9]
    assert (left.num_users, len(left)) == (10, 320)


def test_of_equally_suspicious_users_the_last_among_whom_fakes_are_stay():
    assert sorted(set(recovery.remove(DATA, np.zeros(10), share=0.1).users.tolist())) == list(range(1, 10))
    assert sorted(set(recovery.remove(DATA, SUSPICION, share=0.1).users.tolist())) == [0, 1, 3, 4, 5, 6, 7, 8, 9]


def test_no_share_is_nothing_bit_for_bit_and_all_is_everything():
    same = recovery.remove(DATA, SUSPICION, share=0)
    assert provenance.fingerprint(same) == provenance.fingerprint(DATA)
    assert len(recovery.remove(DATA, SUSPICION, share=1)) == 0


def test_an_interaction_stays_with_the_chance_of_its_user():
    shares = np.mean(
        [
            np.bincount(recovery.down_weight(jax.random.key(n), DATA, SUSPICION).users, minlength=10) / 40
            for n in range(9)
        ],
        axis=0,
    )
    assert shares[4] == 1
    ranks = np.array([3, 1, 8, 2, 0, 8, 4, 5, 6, 7]) / 10
    np.testing.assert_allclose(shares, 1 - ranks**8, atol=4 * (0.25 / 360) ** 0.5)  # four standard errors
    first, again = (recovery.down_weight(jax.random.key(0), DATA, SUSPICION) for _ in range(2))
    assert provenance.fingerprint(first) == provenance.fingerprint(again)


@pytest.mark.parametrize("suspicion", [np.zeros(9), np.full(10, np.nan)])
def test_suspicion_that_is_no_number_a_user_is_refused(suspicion):
    with pytest.raises(ValueError, match="a finite suspicion of 10 users"):
        recovery.remove(DATA, suspicion, share=0.1)
    with pytest.raises(ValueError, match="a finite suspicion of 10 users"):
        recovery.down_weight(jax.random.key(0), DATA, suspicion)
    with pytest.raises(ValueError, match=r"share in \[0, 1\], got share=1.5"):
        recovery.remove(DATA, SUSPICION, share=1.5)


def test_a_model_without_rows_of_users_cannot_fold_any_in():
    model = ease.model(num_users=10, num_items=80)
    with pytest.raises(ValueError, match="a table of users' rows"):
        recovery.of_users(model, objectives.pairwise(model=model))


def test_who_is_folded_in_gets_a_row_and_nothing_else_moves():
    model = mf.model(num_users=10, num_items=80, dimension=4, init_scale=0.1)
    data = Interactions(DATA.users, DATA.items, 10, 80)  # everyone has the first forty of eighty items
    params = model.init(jax.random.key(0))
    params["tables"]["item"] = params["tables"]["item"].at[:40, 0].add(1.0)
    pairs = data.take(np.isin(data.users, (3, 7)))
    objective = objectives.pairwise(model=model)
    after = recovery.fold_in(model, objective, params, pairs, num_epochs=10)
    np.testing.assert_array_equal(after["tables"]["item"], params["tables"]["item"])
    others = np.setdiff1d(np.arange(10), (3, 7))
    np.testing.assert_array_equal(after["tables"]["user"][others], params["tables"]["user"][others])
    scores = np.asarray(model.score_all(after, jax.numpy.array([3, 7])))
    assert scores[:, :40].min() > scores[:, 40:].max()
    nobody = recovery.fold_in(model, objective, params, data.take(np.zeros(len(data), bool)), num_epochs=10)
    np.testing.assert_array_equal(nobody["tables"]["user"], params["tables"]["user"])
