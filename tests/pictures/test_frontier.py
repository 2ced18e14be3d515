"""What a reader needs of the picture of trade-offs: every name, none upon another."""

import itertools

import numpy as np

from jaxrec.pictures import canvas, frontier


def test_names_of_points_that_lie_close_do_not_cover_each_other(tmp_path, monkeypatch):
    boxes, names, save = [], set(), canvas.save

    def kept(path, figure):
        for note in figure.axes[0].texts:
            if note.get_text():
                names.add(note.get_text())
                boxes.append(note.get_window_extent().extents)
        save(path, figure)

    monkeypatch.setattr(canvas, "save", kept)
    rng = np.random.default_rng(0)
    points = [frontier.Point(f"defence {n}", *rng.uniform(0.4, 0.45, 2), 0.1) for n in range(16)]
    points += [frontier.Point("far", 0.1, 0.9, 0.2), points[0]._replace(name="the same")]
    frontier.draw(tmp_path / "a.png", {"MF": points}, x="under attack", y="clean", title="A table")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert names == {"defence 0, the same", *(f"defence {n}" for n in range(1, 16)), "far"}
    for (left, low, right, top), (x0, y0, x1, y1) in itertools.combinations(boxes, 2):
        assert right < x0 or x1 < left or top < y0 or y1 < low
