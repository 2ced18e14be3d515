"""Stages that are taken over from another run: of one that trained and chose as this one does."""

import dataclasses

import pytest

from experiments import ml1m_apr
from jaxrec import files, objectives, run_directory, sampling
from jaxrec.models import mf
from jaxrec.studies import staged
from jaxrec.types import InputError

BPR = objectives.pairwise(model=mf.model(num_users=2, num_items=2, dimension=1))
STAGE = staged.Stage("bpr", BPR, 20, sampling.shuffled, None, "BPR")
DATA = {"sha256": "of the data"}


def reuse(folder, there, here):
    folder.mkdir(exist_ok=True)
    files.write_json(folder / "config.json", {"config": dataclasses.asdict(there), "data": DATA})
    with run_directory.open_run(folder / "run", here, DATA) as run:
        staged.reuse(folder, run, here, STAGE, seeds=())


def test_the_steps_of_the_attack_that_chose_an_epoch_are_the_same(tmp_path):
    five, ten = (ml1m_apr.Config(num_steps=num_steps, robust_epsilon=0.2) for num_steps in (5, 10))
    with pytest.raises(InputError, match=r"as this run does: num_steps: 5 -> 10\."):
        reuse(tmp_path, five, ten)
    reuse(tmp_path, ten, ten)
    chose_nothing = (dataclasses.replace(each, robust_epsilon=None) for each in (five, ten))
    reuse(tmp_path / "another", *chose_nothing)  # those may differ
