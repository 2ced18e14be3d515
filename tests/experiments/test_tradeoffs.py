"""The trade-offs from end to end on a tiny run, its resumption, and what is refused."""

import json

import pytest
import tiny_run

from experiments import tradeoffs
from jaxrec import command, records, results

SMALL = ("--trade-offs", 0.9, 0.3, "--relevance-weights", 4, 0, "--novelty-weights", 0, 9, "--diversity-weights", 0, 1)


def run(*args):
    command.run(tradeoffs.main, tradeoffs.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of results, flags, records) of two seeds, films with one of four genres or none."""
    source, data = tiny_run.write(tmp_path_factory.mktemp("tiny"))
    ids = "".join(f"{item},{100 + item}\n" for item in range(tiny_run.ITEMS))
    (data / "item_ids.csv").write_text(f"item,movie_id\n{ids}")
    genres = ["Action", "Comedy|Drama", "Drama", "(no genres listed)"]
    films = "".join(f"{100 + item}::Film {item} (1990)::{genres[item % 4]}\n" for item in range(tiny_run.ITEMS))
    (data / "movies.dat").write_text(films)
    flags = ("--run", source, "--data-dir", data, "--num-seeds", 2, "--pool", 12, "--learning-rate", 0.5, *SMALL)
    run(*flags)
    out = source / "tradeoffs"
    return out, flags, records.read_records(out / "results.json")


@pytest.mark.slow
def test_a_study_leaves_every_point_of_both_stages(finished):
    out, _, found = finished
    assert (out / "results.md").read_text() == results.page(found)
    assert (out / "curve.png").stat().st_size > 10_000
    points = ["as trained", "MMR 0.9", "MMR 0.3", "DPP 4", "DPP 0", "weighted loss 0, 0", "weighted loss 9, 1"]
    of_metric = {name: [r for r in found if r.metric == name] for name in {r.metric for r in found}}
    for name, cells in of_metric.items():
        assert [(r.defence, r.model) for r in cells] == [
            (defence, f"MF {tiny_run.DIMENSION}, {point}") for defence in (None, "APR") for point in points
        ], name
    assert set(of_metric) == {
        "ndcg", "hit_rate", "intra_list_diversity", "novelty", "coverage", "gini", "long_tail_share", "ndcg_gain",
        "validation_ndcg", "non_dominated", "chosen",
    }  # fmt: skip
    gains = {(r.defence, r.model): r.value for r in of_metric["ndcg_gain"]}
    assert [value for (_, model), value in gains.items() if model.endswith("as trained")] == [0, 0]


def test_lists_are_as_unlike_as_they_are_asked_to_be(finished):
    value = {(r.defence, r.model.partition(", ")[2], r.metric): r.value for r in finished[2]}
    for defence in (None, "APR"):
        unlike = lambda point, defence=defence: value[defence, point, "intra_list_diversity"]
        assert unlike("as trained") <= unlike("MMR 0.9") <= unlike("MMR 0.3")
        assert unlike("DPP 4") < unlike("DPP 0")
        pulled, control, before = ("weighted loss 9, 1", "weighted loss 0, 0", "as trained")
        assert len({value[defence, point, "novelty"] for point in (pulled, control, before)}) == 3


def test_validation_alone_chooses_and_a_finished_point_is_not_done_again(finished):
    """What stands in a file is believed: a point made best on validation is chosen, one on the test is not."""
    out, flags, before = finished
    for file in (out / "measured").glob("*.json"):
        kept = json.loads(file.read_text())
        kept["MMR 0.9"]["validation"] |= {"ndcg": 1.0, "novelty": 99.0, "intra_list_diversity": 1.0}
        kept["MMR 0.3"]["test"] |= {"ndcg": 1.0, "novelty": 99.0, "intra_list_diversity": 1.0}
        file.write_text(json.dumps(kept))
    run(*flags)
    after = records.read_records(out / "results.json")
    kept = [r.model.partition(", ")[2] for r in after if r.metric == "chosen" and r.value and "MMR" in r.model]
    assert kept == ["MMR 0.9", "MMR 0.9"]
    front = {r.model.partition(", ")[2] for r in after if r.metric == "non_dominated" and r.value}
    assert front == {"MMR 0.9"}
    assert [r.value for r in after if r.metric == "gini"] == [r.value for r in before if r.metric == "gini"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Expected --run, a finished run"),
        (["--trade-offs", "-1"], "--trade-offs"),
        (["--novelty-weights", "1"], "as many --novelty-weights as --diversity-weights"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(args, message, capsys):
    with pytest.raises(SystemExit) as left:
        run(*args)
    assert left.value.code == 2
    assert message in capsys.readouterr().err
