"""Which digits are taken, under which name, and what is refused."""

import images_toy
import numpy as np
import pytest

from jaxrec.datasets import digits
from jaxrec.types import InputError


@pytest.fixture(autouse=True)
def nothing_to_be_had(monkeypatch):
    monkeypatch.delenv("JAXREC_DATA", raising=False)


@pytest.mark.parametrize("folder", ["", "mnist", "fashion-mnist"])
def test_files_are_found_in_the_folder_or_below_it(tmp_path, folder):
    images_toy.write(tmp_path / folder)
    found = digits.load(tmp_path)
    images, labels = images_toy.draw(12, seed=1)
    np.testing.assert_array_equal(found.test.images, images)
    np.testing.assert_array_equal(found.test.labels, labels)
    assert len(found.train.labels) == 40
    assert found.path == tmp_path / folder
    assert found.name == f"images of {(tmp_path / folder).name}"


def test_the_two_sets_are_told_apart_by_their_labels(tmp_path):
    images_toy.write(tmp_path)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 6000)
    images_toy.write_part(tmp_path, "train", np.zeros((60_000, 4, 4), np.uint8), labels)
    assert digits.load(tmp_path).name == "Fashion-MNIST"


def test_mnist_by_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv("JAXREC_DATA", str(data_dir))
    found = digits.load()
    assert (found.name, found.path) == (digits.MNIST, data_dir / "mnist")
    assert found.test.images.shape == (10_000, 28, 28)


def test_scikit_learns_digits_need_no_file():
    found = digits.load()
    assert found.path is None
    assert found.train.images.shape == (1437, 8, 8)
    assert found.test.images.shape == (360, 8, 8)
    assert (found.train.images.min(), found.train.images.max()) == (0, 255)
    assert sorted(set(found.test.labels.tolist())) == list(range(10))
    assert found.train.images.dtype == found.train.labels.dtype == np.uint8


def test_what_is_wrong_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte .*got .*nowhere"):
        digits.load(tmp_path / "nowhere")
    images_toy.write(tmp_path)
    images, labels = images_toy.draw(12, seed=1)
    images_toy.write_part(tmp_path, "t10k", images, labels + np.uint8(7))
    with pytest.raises(InputError, match="classes 0 to 9 in t10k-labels, got 10"):
        digits.load(tmp_path)
    images_toy.write_part(tmp_path, "t10k", images[:, :3], labels)
    with pytest.raises(InputError, match=r"test images of \(4, 4\), got \(3, 4\)"):
        digits.load(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte"):
        digits.load(tmp_path)
