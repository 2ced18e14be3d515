"""A table of models from end to end on drawn data: what is kept, chosen, resumed and refused."""

import dataclasses
import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import bench, min_max, objectives, provenance, results, splits, surfaces, types
from jaxrec.defences import free
from jaxrec.models import mf
from jaxrec.studies import model_table, study, table_records


def interactions():
    """Twenty users of two groups, each with ten of the twelve items of its group."""
    rng = np.random.default_rng(0)
    items = [12 * (user % 2) + rng.permutation(12)[:10] for user in range(20)]
    return types.Interactions(
        np.repeat(np.arange(20, dtype=np.int32), 10),
        np.concatenate(items).astype(np.int32),
        num_users=20,
        num_items=24,
        timestamps=np.arange(200, dtype=np.int64),
    )


SPLIT = splits.leave_one_out(interactions())
DATA = study.Data(SPLIT, "drawn", "drawn data", "leave-one-out", provenance.fingerprint(SPLIT))
ON = bench.leave_one_out(SPLIT, cutoffs=(10, 2, 400), list_length=2)


def popularity():
    """A model that solves: an item's count, whoever asks."""
    counts = lambda pairs: np.bincount(pairs.items, minlength=24)[:, None].astype(np.float32)
    score = lambda params, users, items: 0 * users + params["tables"]["item"][items, 0]
    return types.Model(
        init=lambda key: {"tables": {"item": np.zeros((24, 1), np.float32)}, "weights": {}, "given": {}},
        score=score,
        score_all=lambda params, users: 0 * users[:, None] + params["tables"]["item"].T,
        solve=lambda pairs, key: {"tables": {"item": counts(pairs)}, "weights": {}, "given": {}},
    )


def of_group(sign):
    """Scores that are high for a user's own group of items, or low."""
    return lambda params, users: jnp.float32(sign) * (users[:, None] % 2 == jnp.arange(24)[None] // 12)


def rows(num_epochs=6):
    model = mf.model(num_users=20, num_items=24, dimension=4, init_scale=0.1)
    fit = model_table.by_steps(
        model,
        objectives.pairwise(model=model),
        optax.adagrad(0.5),
        num_epochs=num_epochs,
        batch_size=32,
        validate_every=2,
    )
    return [
        model_table.Row("popularity", popularity(), "counts", seeds=1),
        model_table.Row("MF", model, "BPR", fit),
        model_table.Row("MF, no refit", model, "BPR", fit, epochs="best"),
        model_table.Row("MF, fixed", model, "BPR", fit, seeds=1, epochs="fixed"),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    return path, model_table.run(path, rows(), ON, seeds=[3, 4])


def epochs(path, name):
    lines = [json.loads(line) for line in (path / "logs" / f"{name}.jsonl").read_text().splitlines()]
    return [line["epoch"] for line in lines], {line["epoch"]: line.get("valid_ndcg") for line in lines}


def test_a_row_without_chance_is_measured_once_and_the_others_for_each_seed(finished):
    path, table = finished
    assert {name: len(cells) for name, cells in table.items()} == {
        "popularity": 1,
        "MF": 2,
        "MF, no refit": 2,
        "MF, fixed": 1,
    }
    names = {file.name for file in (path / "measured").iterdir()}
    mine = {"popularity-3.npz", "mf-3.npz", "mf-4.npz", "mf__no_refit-3.npz", "mf__no_refit-4.npz", "mf__fixed-3.npz"}
    assert names == mine
    assert not (path / "checkpoints" / "mf__fixed-choice").exists()
    assert table["MF, fixed"][0].epochs == 6


def test_validation_chooses_the_epochs_and_the_refit_takes_as_many_on_more_pairs(finished):
    path, table = finished
    trained, valid = epochs(path, "mf-choice")
    assert trained == [1, 2, 3, 4, 5, 6]
    best = max((2, 4, 6), key=lambda epoch: valid[epoch])
    for cell, seed in zip(table["MF"], (3, 4), strict=True):
        assert cell.epochs == best
        assert epochs(path, f"mf-{seed}")[0] == list(range(1, best + 1))
        assert cell.step == best * -(-len(ON.both) // 32)
    per_seed = [epochs(path, f"mf__no_refit-{seed}")[1] for seed in (3, 4)]
    assert [cell.epochs for cell in table["MF, no refit"]] == [
        max((2, 4, 6), key=lambda epoch: valid[epoch]) for valid in per_seed
    ]


def test_validation_chooses_among_options_and_the_choice_is_kept(tmp_path):
    right, wrong = (dataclasses.replace(popularity(), score_all=of_group(sign)) for sign in (1, -1))
    row = model_table.Row("popularity", wrong, "counts", seeds=1, options={"down": wrong, "up": right})
    (tmp_path / "measured").mkdir()
    for _ in range(2):
        chosen = model_table.chosen(tmp_path, [row], ON, 3)[0]
        assert chosen.model is right
        assert chosen.training == "counts; up, chosen of down, up"
    assert set(json.loads((tmp_path / "measured" / "popularity-choice.json").read_text())) == {"down", "up"}
    for name in ("popularity-3.npz", "popularity-4.npz", "popularity_2-3.npz"):
        (tmp_path / "measured" / name).touch()
    with pytest.raises(types.InputError, match=r"name left; .* Remove .*popularity-3\.npz and .*popularity-4\.npz\.$"):
        model_table.chosen(tmp_path, [row._replace(options={"left": right})], ON, 3)


def test_the_groups_are_learned(finished):
    """Popularity does not tell the groups apart; MF does."""
    ndcg = {
        name: np.mean([model_table.METRICS["ndcg"](cell.measured.ranks, 10, 24).mean() for cell in cells])
        for name, cells in finished[1].items()
    }
    assert ndcg["MF"] > ndcg["popularity"] + 0.1


def test_what_goes_on_from_a_training_takes_the_batches_and_negatives_that_come_after(tmp_path, monkeypatch):
    asked, shuffled = [], model_table.sampling.shuffled
    one_order = lambda train, seed, epoch: (asked.append(epoch), shuffled(train, seed=seed, epoch=0))[1]
    monkeypatch.setattr(model_table.sampling, "shuffled", one_order)
    row = rows(num_epochs=2)[3]._replace(epochs="last")
    later = row._replace(name="MF, later", fit=row.fit._replace(first_epoch=2))
    first, second = (model_table.finish(tmp_path, each, ON, 3).params["tables"]["item"] for each in (row, later))
    assert asked == [0, 1, 2, 3]
    assert not np.array_equal(first, second), "of one start and order, they differ by the negatives"


def test_what_is_measured_is_not_done_again_and_a_lost_cell_is(finished, tmp_path):
    path, table = finished
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*.npz")}
    (path / "measured" / "mf-4.npz").unlink()
    again = model_table.run(path, rows(), ON, seeds=[3, 4])
    after = {file: file.stat().st_mtime_ns for file in path.rglob("*.npz")}
    assert {file.name for file in before if before[file] != after[file]} == {"mf-4.npz"}
    np.testing.assert_array_equal(again["MF"][1].measured.ranks, table["MF"][1].measured.ranks)


def test_the_models_of_a_table_can_be_loaded(finished):
    path, table = finished
    for row in rows():
        params = model_table.trained(path, row, ON, 3, 3)
        measured = bench.measure(row.model, params, ON.test)
        np.testing.assert_array_equal(measured.ranks, table[row.name][0].measured.ranks)
    with pytest.raises(types.InputError, match="checkpoints of MF, seed 9"):
        model_table.trained(path, rows()[1], ON, 9, 3)


def files_of(path):
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.rglob("*") if file.is_file()}


def test_a_run_whose_models_are_loaded_is_not_touched(finished, tmp_path):
    """Nor where the training would go on: it was of fewer epochs, or its last step is damaged."""
    path = shutil.copytree(finished[0], tmp_path / "run")
    before = files_of(path)
    for row in rows():
        model_table.trained(path, row, ON, 3, 3)
    with pytest.raises(types.InputError, match=r"checkpoint after 8 epochs in .*mf__fixed-3, got one after 6\."):
        model_table.trained(path, rows(num_epochs=8)[3], ON, 3, 3)
    assert files_of(path) == before
    newest = max((path / "checkpoints" / "mf__fixed-3").glob("[0-9]*"), key=lambda step: int(step.name))
    (newest / "header.json").write_text("{}")
    before = files_of(path)
    with pytest.raises(types.InputError, match=r"checkpoint after 6 epochs in .*mf__fixed-3, got one after 4\."):
        model_table.trained(path, rows()[3], ON, 3, 3)
    assert files_of(path) == before


def test_a_row_starts_from_what_the_rows_before_it_learned_on_the_same_pairs(finished, tmp_path):
    """With a learning rate of 0 it stays there: its choice where their choice ended, its last where their last did."""
    _, before, *_ = rows()
    still = model_table.by_steps(
        before.model,
        objectives.pairwise(model=before.model),
        optax.sgd(0.0),
        num_epochs=2,
        batch_size=32,
        validate_every=2,
        parts=(before,),
        start=lambda params: params,
    )
    row = model_table.Row("MF, gone on", before.model, "SGD 0", still)
    model_table.run(tmp_path, [row], ON, seeds=[3, 4])
    assert not (tmp_path / "measured" / "mf-3.npz").exists(), "the rows before it are trained, not measured"
    for seed in (3, 4):
        here, theirs = (model_table.trained(tmp_path, each, ON, seed, 3)["tables"] for each in (row, before))
        np.testing.assert_array_equal(here["user"], theirs["user"])
        assert epochs(tmp_path, f"mf-{seed}")[0] == epochs(finished[0], f"mf-{seed}")[0]
    chosen = [dict(epochs(tmp_path, f"{name}-choice")[1]) for name in ("mf", "mf__gone_on")]
    assert chosen[1][2] == max(value for value in chosen[0].values() if value is not None)
    (tmp_path / "measured" / "mf__gone_on-3.npz").unlink()
    for path in (tmp_path / "checkpoints").glob("mf-*"):
        shutil.rmtree(path)
    model_table.run(tmp_path, [row], ON, seeds=[3, 4])
    assert not list((tmp_path / "checkpoints").glob("mf-*")), "it goes on from its own checkpoint, not from theirs"
    fixed = row._replace(name="MF, another", fit=still._replace(parts=(before._replace(epochs="fixed"),)))
    with pytest.raises(ValueError, match="MF, another and the rows it starts from to be refitted"):
        model_table.run(tmp_path, [fixed], ON, seeds=[3])


def test_a_broken_cell_is_named(tmp_path):
    (tmp_path / "mf-3.npz").write_bytes(b"PK no zip")
    with pytest.raises(types.InputError, match=r"mf-3\.npz"):
        model_table.read_cell(tmp_path / "mf-3.npz")


def records(table):
    return table_records.records_of(
        table, rows(), DATA, ON, seeds=[3, 4], experiment="test", exposures=table_records.exposures(SPLIT.train)
    )


def test_records_say_what_was_measured_how(finished):
    found = {(r.model, r.metric, r.k): r for r in records(finished[1])}
    assert {k for _, metric, k in found if metric == "ndcg"} == {2, 10}, "400 is more than there are candidates"
    one, several = found["popularity", "ndcg", 10], found["MF", "ndcg", 10]
    assert (one.seeds, one.step) == ((3,), None)
    assert (several.seeds, several.users) == ((3, 4), 20)
    assert "on train and validation" in several.training
    assert "on train and validation" not in found["MF, no refit", "ndcg", 10].training
    assert 0 < found["MF", "coverage", 2].value <= 1
    assert found["MF", "seconds", None].value > 0


def test_records_of_a_training_of_so_many_epochs_say_that_it_knew_no_validation_pairs(finished):
    last = rows()[3]._replace(epochs="last")
    record, *_ = table_records.records_of(finished[1], [last], DATA, ON, seeds=[3, 4], experiment="test", exposures={})
    assert (record.training, record.chosen_by) == ("BPR; 6 epochs", None)


def test_the_page_sets_our_figures_beside_published_ones(finished):
    page = table_records.beside(records(finished[1]), {"MF": {"ndcg@10": 0.5}, "popularity": {}})
    of_mf = next(line for line in page.splitlines() if line.startswith("| MF |"))
    ours = next(r for r in records(finished[1]) if (r.model, r.metric, r.k) == ("MF", "ndcg", 10))
    assert results.cell_of(ours) in of_mf
    assert f"0.500 | {ours.value - 0.5:+.3f}" in of_mf
    assert "| popularity |" in page


@dataclasses.dataclass(frozen=True)
class Config:
    run_dir: pathlib.Path
    rows: tuple[str, ...] = ("popularity",)
    seed: int = 3
    num_seeds: int = 1


def test_a_run_can_take_more_rows_and_seeds_and_refuses_names_it_does_not_have(tmp_path, capsys):
    first = Config(tmp_path / "run")
    table_records.execute("test", first, DATA, ON, rows(2), published={"MF": {"ndcg@10": 0.5}})
    assert "popularity" in capsys.readouterr().out
    assert not (tmp_path / "run" / "curves.png").exists(), "nothing was trained by steps"
    more = dataclasses.replace(first, rows=("popularity", "MF"), num_seeds=2)
    table_records.execute("test", more, DATA, ON, rows(2))
    assert "MF" in (tmp_path / "run" / "results.md").read_text()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000
    curves = model_table.learning_curves(tmp_path / "run", rows(2), ON, 3)
    assert curves == {"MF": [(2, epochs(tmp_path / "run", "mf-choice")[1][2])]}
    with pytest.raises(types.InputError, match=r"--rows of popularity, MF, .*; got SLIM"):
        table_records.execute("test", dataclasses.replace(first, rows=("SLIM",)), DATA, ON, rows(2))


def test_a_catalogue_below_every_cutoff_is_cut_at_its_size():
    small = bench.leave_one_out(SPLIT, cutoffs=(100, 400))
    largest = min(small.valid.num_ranked, small.test.num_ranked)
    assert small.cutoffs == {"ndcg": (largest,), "hit_rate": (largest,)}
    with pytest.raises(types.InputError, match="held-out interactions in the validation part, got none"):
        bench.held_out_lists(SPLIT._replace(valid=SPLIT.valid.take(np.arange(0))))
    lists = bench.held_out_lists(SPLIT, cutoffs=(20, 50))
    assert lists.cutoffs == {"ndcg": (20,), "recall": (20,)}
    assert bench.held_out_lists(SPLIT, cutoffs=(50,)).test.list_length == 24


def test_a_row_may_carry_a_perturbation_and_replay_its_batches(tmp_path):
    _, plain, *_ = rows()
    surface = surfaces.tables("user", "item")
    clean = objectives.pairwise(model=plain.model)
    fit = model_table.by_steps(
        plain.model,
        free.objective(clean=clean, surface=surface, epsilon=0.1),
        optax.adagrad(0.5),
        num_epochs=2,
        batch_size=32,
        carried=min_max.nothing(surface),
        num_replays=2,
    )
    row = model_table.Row("MF, free", plain.model, "free", fit, seeds=1, epochs="fixed")
    (cell,) = model_table.run(tmp_path, [row], ON, seeds=[3])["MF, free"]
    (line, *_) = (json.loads(line) for line in (tmp_path / "logs" / "mf__free-3.jsonl").read_text().splitlines())
    assert cell.step == 2 * 6, "a step for each of 6 batches, whatever its replays"
    assert line["adv_loss"] > line["loss"]
