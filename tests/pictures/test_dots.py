"""Dots are drawn with their intervals, also where a series lacks a row that another has."""

from jaxrec.pictures import dots


def test_dots_are_drawn_where_series_differ_in_their_rows(tmp_path):
    series = {"a": {"x": (1.0, (0.5, 2.0)), "y": (2.0, (2.0, 2.0))}, "b": {"y": (0.0, (-1.0, 1.0))}}
    panels = {"left": series, "right": {"b": {"z": (3.0, (1.0, 4.0))}}}
    dots.draw(tmp_path / "dots.png", panels, x="points", title="two panels")
    assert (tmp_path / "dots.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["dots.png"]
