"""The poisoning table of MovieLens-1M from end to end on small leave-one-out files, which have no ratings."""

import numpy as np

from experiments import ml1m_poisoning_table
from jaxrec import command, fake_files, records
from jaxrec.studies import poison_parts


def test_the_table_is_made_without_ratings_and_detectors_see_what_victims_do(tmp_path):
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, 61)
    rows = [rng.choice(60, 10, replace=False, p=odds / odds.sum()) for _ in range(40)]
    pairs = lambda place: "".join(f"{user}\t{item}\n" for user, row in enumerate(rows) for item in row[place])
    (tmp_path / "ml-1m.train.rating").write_text(pairs(slice(0, 9)))
    (tmp_path / "ml-1m.test.rating").write_text(pairs(slice(9, 10)))
    negatives = "".join(f"({user},{row[9]})\t{row[0]}\n" for user, row in enumerate(rows))
    (tmp_path / "ml-1m.test.negative").write_text(negatives)
    path = tmp_path / "run"
    flags = ["--smoke", "--data-dir", str(tmp_path), "--run-dir", str(path), "--victims", "EASE"]
    small = ["--aims", "nuke head", "--profile-size", "6", "--num-selected", "2", "--num-targets", "2"]
    command.run(ml1m_poisoning_table.main, ml1m_poisoning_table.Config, flags + small)
    found = records.read_records(path / "results.json")
    assert {r.experiment for r in found} == {"ml1m_poisoning_table"}
    aucs = {r.model for r in found if r.metric == "auc"}
    assert aucs == {f"detector: {name}, implicit" for name in poison_parts.detectors()}
    changed = {r.model: r.value for r in found if r.metric == "target_ndcg_change" and r.attack == "random, nuke head"}
    assert changed["EASE"] != 0
    fakes, about = fake_files.read(path / "attacks" / "implicit-random-nuke-head-0.05-0.npz")
    assert about["direction"] == "nuke"
    assert not set(about["targets"]) & set(fakes.items.tolist())
