"""Bars: a picture is left, or what cannot be drawn is refused before anything is written."""

import pytest

from jaxrec.pictures import bars


def test_bars_are_drawn_with_and_without_intervals(tmp_path):
    series = {"one": {"clean": (0.9, (0.8, 1.0)), "attack, far": (0.0, None)}}
    bars.draw(tmp_path / "one.png", series, title="shares")
    bars.draw(
        tmp_path / "two.png", series | {"two": {"clean": (0.5, None), "attack, far": (0.25, None)}}, title="shares"
    )
    one, two = (tmp_path / name for name in ("one.png", "two.png"))
    assert one.stat().st_size > 5_000
    assert one.read_bytes() != two.read_bytes()


@pytest.mark.parametrize("series", [{}, {"one": {}}, {"one": {"a": (1.0, None)}, "two": {"b": (1.0, None)}}])
def test_series_of_other_conditions_are_refused(tmp_path, series):
    with pytest.raises(ValueError, match="Expected series of the same conditions"):
        bars.draw(tmp_path / "no.png", series, title="")
    assert not list(tmp_path.iterdir())
