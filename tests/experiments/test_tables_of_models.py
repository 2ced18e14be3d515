"""The experiments that compare models, end to end on drawn files: rows, records, and who is brittle."""

import jax
import numpy as np
import pytest

from experiments import amazon_sequential_table, embedding_robustness, gowalla_table, ml1m_full_table, ml1m_ncf_table
from experiments import ml1m_sequential_table as sequential
from jaxrec import command, records, results, splits
from jaxrec.datasets import locate, ml1m
from jaxrec.studies import model_robustness, study
from jaxrec.types import InputError


def run(experiment, *args):
    command.run(experiment.main, experiment.Config, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Forty users of two groups with twelve of their group's twenty items each."""
    rng = np.random.default_rng(0)
    lines = ["user,item,timestamp\n"]
    for user in range(40):
        lines += [f"{user},{20 * (user % 2) + item},{t}\n" for t, item in enumerate(rng.permutation(20)[:12])]
    path = tmp_path_factory.mktemp("data") / "drawn.csv"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def table(csv, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "table"
    run(ml1m_full_table, "--smoke", "--data", csv, "--run-dir", path, "--rows", "popularity", "EASE", "iALS", "MF, BPR")
    return path


def test_a_file_of_ones_own_goes_through_the_table(table):
    found = records.read_records(table / "results.json")
    assert {record.model for record in found} == {"popularity", "EASE", "iALS", "MF, BPR"}
    assert {record.experiment for record in found} == {"ml1m_full_table"}
    metrics = {record.metric for record in found}
    assert metrics >= {"ndcg", "hit_rate", "coverage", "long_tail_share", "gini", "entropy", "novelty", "seconds"}
    ndcg = {record.model: record.value for record in found if record.metric == "ndcg" and record.k == 10}
    assert ndcg["EASE"] > ndcg["popularity"], "popularity does not see the groups"
    assert (table / "results.md").read_text() == results.page(found)


def test_a_table_takes_over_the_trainings_of_another_with_the_same_flags(csv, table, tmp_path, capsys):
    flags = ("--smoke", "--data", csv, "--run-dir", tmp_path / "other", "--reuse", table)
    run(ml1m_full_table, *flags, "--rows", "MF, BPR")
    log = (tmp_path / "other" / "logs" / "mf__bpr-0.jsonl").read_bytes()
    assert log == (table / "logs" / "mf__bpr-0.jsonl").read_bytes()
    with pytest.raises(SystemExit) as left:
        run(ml1m_full_table, "--smoke", "--data", csv, "--run-dir", tmp_path / "third", "--reuse", table, "--seed", 5)
    assert left.value.code == 2
    assert "seed: 0 -> 5" in capsys.readouterr().err


@pytest.mark.slow
def test_every_model_of_a_table_is_attacked_and_the_study_goes_on_where_it_was(table, capsys):
    flags = ("--run", table, "--epsilons", 1.0, "--num-steps", 5, "--num-users", 20)
    run(embedding_robustness, *flags)
    folder = table / "embedding_robustness"
    before = {path: path.stat().st_mtime_ns for path in (folder / "measured").iterdir()}
    run(embedding_robustness, *flags)
    assert {path: path.stat().st_mtime_ns for path in (folder / "measured").iterdir()} == before
    found = records.read_records(folder / "results.json")
    assert {record.model for record in found} == {"popularity", "EASE", "iALS", "MF, BPR"}
    assert {record.users for record in found} == {20}
    kept = {(r.model, r.attack): r.value for r in found if r.metric == "list_overlap"}
    for model in ("EASE", "iALS", "MF, BPR"):
        assert kept[model, None] == 1
        assert kept[model, model_robustness.WORST] < kept[model, "noise"], f"{model} under attack and under noise"
    gaps = {(r.model, r.attack): r.value for r in found if r.metric == "list_gap"}
    assert gaps.keys() == {("iALS", None), ("MF, BPR", None)}, "of clean models with a canonical gauge"
    assert min(gaps.values()) > 0
    assert (folder / "curve.png").stat().st_size > 10_000
    assert "worst of white box" in capsys.readouterr().out


def test_a_budget_of_nothing_leaves_the_lists(table, tmp_path):
    """The overlap is that of lists, not of users: all of it at a vanishing epsilon."""
    flags = ("--epsilons", 1e-6, "--num-steps", 1, "--num-users", 20, "--rows", "iALS", "--out", tmp_path / "out")
    run(embedding_robustness, "--run", table, *flags)
    found = records.read_records(tmp_path / "out" / "results.json")
    assert {record.value for record in found if record.metric == "list_overlap"} == {1.0}


def test_measurements_of_one_run_are_not_read_as_those_of_another(csv, table, tmp_path, capsys):
    """Another seed has other tables under the same names; the same run, moved, goes on."""
    flags = ("--epsilons", 1.0, "--num-steps", 1, "--num-users", 20, "--rows", "popularity", "--out", tmp_path / "out")
    run(ml1m_full_table, "--smoke", "--data", csv, "--run-dir", tmp_path / "b", "--rows", "popularity", "--seed", 1)
    run(embedding_robustness, "--run", tmp_path / "b", *flags)
    (tmp_path / "b").rename(tmp_path / "moved")
    run(embedding_robustness, "--run", tmp_path / "moved", *flags)
    with pytest.raises(SystemExit) as left:
        run(embedding_robustness, "--run", table, *flags)
    assert left.value.code == 2
    assert "data.run" in capsys.readouterr().err


@pytest.fixture
def histories(tmp_path):
    """Thirty users who go round sixty items."""
    item = lambda u, place: 1 + (2 * u + place) % 60
    lines = [f"{u} " + " ".join(str(item(u, t)) for t in range(5)) for u in range(1, 31)]
    for name in ("sequences.txt", "Beauty.txt", "train.txt"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    for name, place in (("valid.txt", 5), ("test.txt", 6)):
        (tmp_path / name).write_text("\n".join(f"{u} {item(u, place)}" for u in range(1, 31)) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("experiment", "row"), [(sequential, "item-kNN"), (amazon_sequential_table, "popularity"), (gowalla_table, "iALS")]
)
def test_published_splits_go_through_their_tables(experiment, row, histories):
    path = histories / "run"
    run(experiment, "--smoke", "--data-dir", histories, "--run-dir", path, "--rows", row)
    found = records.read_records(path / "results.json")
    assert {record.model for record in found} == {row}
    assert all(np.isfinite(record.value) for record in found)
    if experiment is not amazon_sequential_table:
        assert "published" in (path / "beside_published.md").read_text()


def test_sequence_models_take_a_file_of_ones_own_and_their_run_can_be_attacked(csv, tmp_path):
    run(sequential, "--smoke", "--data", csv, "--run-dir", tmp_path / "run", "--rows", "item-kNN")
    assert not (tmp_path / "run" / "beside_published.md").exists(), "published figures are of other data"
    flags = ("--epsilons", 1.0, "--num-steps", 1, "--num-users", 20)
    run(embedding_robustness, "--run", tmp_path / "run", *flags)
    found = records.read_records(tmp_path / "run" / "embedding_robustness" / "results.json")
    assert {(record.model, record.dataset) for record in found} == {("item-kNN", "drawn, first 100 users")}
    csv.with_name("other.csv").write_text(csv.read_text().replace("39,", "38,"))
    (tmp_path / "run" / "config.json").write_text(
        (tmp_path / "run" / "config.json").read_text().replace("drawn.csv", "other.csv")
    )
    with pytest.raises(SystemExit) as left:
        run(embedding_robustness, "--run", tmp_path / "run", *flags)
    assert left.value.code == 2


def test_a_file_without_times_has_no_order_that_sequence_models_could_read(tmp_path):
    (tmp_path / "drawn.csv").write_text("user,item\n0,1\n0,2\n0,3\n1,1\n")
    with pytest.raises(InputError, match=r"--data with times, .*drawn\.csv has none"):
        sequential.parts(sequential.Config(data=tmp_path / "drawn.csv"))


def test_attention_in_half_precision_scores_in_full_precision(csv):
    _, on, rows = sequential.parts(sequential.Config(data=csv, compute_dtype="bfloat16", max_length=4))
    for row in (row for row in rows if row.name in ("SASRec, BCE", "HSTU", "BERT4Rec")):
        params = jax.eval_shape(row.model.init, jax.random.key(0))
        scores = jax.eval_shape(row.model.score_all, row.model.knowing(params, on.both), np.arange(3))
        assert (scores.shape, scores.dtype) == ((3, 40), np.float32)


def test_a_table_that_holds_out_several_items_is_refused_by_the_robustness_of_lists(histories, tmp_path, capsys):
    run(gowalla_table, "--smoke", "--data-dir", histories, "--run-dir", tmp_path / "run", "--rows", "popularity")
    with pytest.raises(SystemExit) as left:
        run(embedding_robustness, "--run", tmp_path / "run", "--epsilons", 1.0)
    assert left.value.code == 2
    assert "one item of each user" in capsys.readouterr().err


def test_what_is_known_of_users_and_movies_is_read_where_it_is(tmp_path, capsys):
    """Without files beside the ratings a model has the ids alone, and says so by its name."""
    lines = [f"{u}::{i}::4::{1_000_000_000 + u * i}" for u in range(1, 9) for i in range(1, 13) if (u + i) % 3]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    located = locate.Located(splits.leave_one_out(ml1m.load(tmp_path)), "ml-1m", tmp_path / "ratings.dat", "", False)
    data = study.Data(located.split, "ml-1m", "drawn", "drawn", {}, located)
    names = lambda: [row.name for row in ml1m_full_table.of_features(ml1m_full_table.Config(), data)]
    assert names() == [f"{name}, ids alone" for name in ("FM", "DeepFM", "DCN-v2", "two towers")]
    assert "Without a description of users" in capsys.readouterr().err
    (tmp_path / "users.dat").write_text("".join(f"{u}::{'FM'[u % 2]}::{18 + u}::{u}::0\n" for u in range(1, 9)))
    (tmp_path / "movies.dat").write_text("".join(f"{i}::Film ({1980 + i})::Action|Drama\n" for i in range(1, 13)))
    assert names() == ["FM", "DeepFM", "DCN-v2", "two towers"]
    assert "intra_list_diversity" in ml1m_full_table.exposures(ml1m_full_table.Config(), data)


@pytest.mark.parametrize("experiment", [ml1m_ncf_table, sequential, gowalla_table, amazon_sequential_table])
def test_wrong_flags_are_refused(experiment, capsys):
    with pytest.raises(SystemExit) as left:
        run(experiment, "--epochs", 0)
    assert left.value.code == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", [sequential, amazon_sequential_table])
def test_histories_of_one_item_are_refused(experiment, capsys):
    with pytest.raises(SystemExit) as left:
        run(experiment, "--max-length", 1)
    assert left.value.code == 2
    assert "Expected --max-length >= 2, got --max-length 1." in capsys.readouterr().err


def test_a_robustness_without_a_run_is_refused(capsys):
    with pytest.raises(SystemExit) as left:
        run(embedding_robustness)
    assert left.value.code == 2
    assert "Expected --run" in capsys.readouterr().err
