"""Laws of the page of results."""

from __future__ import annotations

import textwrap

import pytest
from measured import ATTACKED, record

from jaxrec import results

RELATIVE = ATTACKED | {"epsilon": 0.01, "epsilon_unit": "relative", "gauge": "canonical"}


def test_the_page_has_a_first_look_then_every_value_and_what_differs():
    made = results.page(
        [
            record(metric="hit_rate", value=0.08, interval=(0.07, 0.09)),
            record(),
            record(metric="ndcg", k=50, value=0.1, interval=None),
            record(metric="coverage", value=0.5, interval=(0.4, 0.6)),
            record(metric="ndcg_gain_p", value=0.25, interval=None),
            record(**ATTACKED | {"defence": None}, step=300, value=0.0854),
            record(**RELATIVE, step=300),
        ]
    )
    assert made == textwrap.dedent(
        """\
        # ml1m_apr on MovieLens-1M

        | defence | attack | epsilon | hit_rate@10 | ndcg@10 | change | coverage@10 |
        | --- | --- | --- | --: | --: | --: | --: |
        | - | - | - | 0.0800 | 0.0427 [0.0412, 0.0441] | - | 0.5000 |
        | - | pgd | 0.5 absolute | - | 0.0854 [0.0412, 0.0441] | - | - |
        | apr | pgd | 0.01 relative, canonical gauge | - | 0.0427 [0.0412, 0.0441] | - | - |

        ## Every value

        | defence | attack | epsilon | hit_rate@10 | ndcg@10 | ndcg@50 | coverage@10 |
        | --- | --- | --- | --: | --: | --: | --: |
        | - | - | - | 0.0800 [0.0700, 0.0900] | 0.0427 [0.0412, 0.0441] | 0.1000 | 0.5000 [0.4000, 0.6000] |
        | - | pgd | 0.5 absolute | - | 0.0854 [0.0412, 0.0441] | - | - |
        | apr | pgd | 0.01 relative, canonical gauge | - | 0.0427 [0.0412, 0.0441] | - | - |

        | defence | attack | epsilon | ndcg_gain_p@10 |
        | --- | --- | --- | --: |
        | - | - | - | 0.2500 |

        ## Conditions that differ

        | defence | attack | epsilon | step |
        | --- | --- | --- | --- |
        | - | - | - | 200 |
        | - | pgd | 0.5 absolute | 300 |
        | apr | pgd | 0.01 relative, canonical gauge | 300 |

        - model: mf
        - chosen_by: validation
        - surface: user and item tables
        - oracle: white-box
        - training: 200 epochs
        - dataset: MovieLens-1M
        - split: leave-one-out
        - protocol: full ranking
        - users: 6040
        - seeds: 0 1
        - gradient_evaluations: 20
        - achieved_norm: user 0.5, item 0.25
        - device: 2 x cpu
        - commit: abc
        - fingerprint: ff
        - in brackets: 95 % intervals
        """
    )


def test_change_is_against_the_same_model_without_an_attack():
    """Of two models and two ways to choose the epoch each attacked row finds its own clean one, whatever the order."""
    clean = {(None, "validation"): 0.5, (None, "last"): 0.4, ("apr", "validation"): 0.2}
    attacked = {key: value * factor for (key, value), factor in zip(clean.items(), (0.5, 1.25, 0.9), strict=True)}
    kind = lambda key: {"defence": key[0], "chosen_by": key[1], "interval": None}
    found = [record(**ATTACKED | kind(key) | {"value": value}) for key, value in attacked.items()]
    found += [record(**kind(key) | {"value": value}) for key, value in clean.items()]
    words, numbers, rows = results.first_look(found)
    assert words == ["defence", "attack", "epsilon", "chosen_by"]
    assert numbers == ["ndcg@10", "change"]
    assert [row[-1] for row in rows] == ["-50.0%", "+25.0%", "-10.0%", "-", "-", "-"]


def test_rows_are_told_apart_by_what_caused_them():
    found = [record(**ATTACKED | {"surface": name, "achieved_norm": norm}) for name, norm in (("a", 0.5), ("b", 0.4))]
    words, _, rows = results.first_look(found)
    assert words == ["defence", "attack", "epsilon", "surface"]
    assert [row[3] for row in rows] == ["a", "b"]
    two_models = [record(), record(**ATTACKED | {"model": "lightgcn"})]
    assert results.first_look(two_models).words == ["model", "defence", "attack", "epsilon"]


def test_records_of_other_metrics_have_a_page_without_a_first_look():
    made = results.page([record(metric="auc", k=None, value=0.75, interval=None)])
    assert made.startswith("# ml1m_apr on MovieLens-1M\n\n| defence | attack | epsilon | auc |\n")
    assert "Every value" not in made
    assert "intervals" not in made
    with pytest.raises(ValueError, match="Expected records of ndcg, got auc"):
        results.first_look([record(metric="auc", k=None)])


def test_a_page_hides_no_second_value_of_a_cell_and_breaks_on_no_bar():
    with pytest.raises(ValueError, match="a second"):
        results.page([record(), record(value=0.5, interval=None)])
    with pytest.raises(ValueError, match="at least one record"):
        results.page([])
    assert "- model: a\\|b\n" in results.page([record(model="a|b\n")])
