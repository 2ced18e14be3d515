"""Laws of the charts: what is drawn where, and that lines can be told apart."""

import itertools
import re

import numpy as np
import pytest

from jaxrec import charts


def series(name, values, kind="attack", low=None, high=None, epsilons=(0.1, 0.2, 0.4)):
    return {"name": name, "kind": kind, "epsilons": list(epsilons), "values": values, "low": low, "high": high}


def drawn(*lines, clean=0.5):
    curve = {"unit": "relative", "metric": "ndcg", "k": 10, "clean": clean, "series": list(lines)}
    return charts.lines(curve, charts.styles([curve]), x_title="epsilon", y_title="NDCG@10")


def of_class(svg, name):
    return [part for part in svg.iter() if name in part.get("class", "").split()]


def marks(svg):
    """{tooltip: (x, y)} of every mark."""
    found = {}
    for mark in of_class(svg, "mark"):
        if (title := mark.find("title")) is not None:
            found[title.text] = tuple(map(float, re.findall(r"[-\d.]+", mark.get("transform"))))
    return found


def test_marks_lie_in_proportion_to_epsilon_and_value():
    found = marks(drawn(series("PGD", [0.4, 0.3, 0.05])))
    assert list(found) == [
        "PGD at epsilon 0: 0.5000",
        "PGD at epsilon 0.1: 0.4000",
        "PGD at epsilon 0.2: 0.3000",
        "PGD at epsilon 0.4: 0.0500",
    ]
    x, y = np.array(list(found.values())).T
    np.testing.assert_allclose((x - x[0]) / (x[3] - x[0]), [0, 0.25, 0.5, 1], atol=1e-3)
    np.testing.assert_allclose((y - y[0]) / (y[3] - y[0]), np.array([0, 0.1, 0.2, 0.45]) / 0.45, atol=1e-3)
    assert y[3] > y[0]  # low values lie low


def test_a_tooltip_tells_the_interval():
    svg = drawn(series("PGD", [0.4, 0.3, 0.2], low=[0.35, 0.25, None], high=[0.45, 0.35, 0.3]))
    assert "PGD at epsilon 0.2: 0.3000 [0.2500, 0.3500]" in marks(svg)


def test_an_unknown_value_interrupts_its_line():
    svg = drawn(series("whole", [0.4, 0.3, 0.2]), series("broken", [0.4, None, 0.2]))
    paths = {group.find("text/title").text: of_class(group, "line")[0].get("d") for group in of_class(svg, "series")}
    whole, broken = paths["whole"], paths["broken"]
    assert (whole.count("M"), whole.count("L")) == (1, 3)
    assert (broken.count("M"), broken.count("L")) == (2, 1)


def test_a_series_without_any_value_is_not_drawn():
    svg = drawn(series("nothing", [None] * 3), clean=None)
    assert not of_class(svg, "series")


def test_a_band_joins_the_ends_of_known_intervals():
    svg = drawn(series("PGD", [0.4, 0.3, 0.2], low=[0.3, 0.2, None], high=[0.5, 0.4, None]))
    band = next(path.get("d") for path in of_class(svg, "band") if path.get("d"))
    corners = [tuple(map(float, pair.split())) for pair in band.strip("MZ").split("L")]
    y = marks(svg)["PGD at epsilon 0.1: 0.4000 [0.3000, 0.5000]"][1]
    assert len(corners) == 4
    assert corners[0][1] < y < corners[3][1]
    assert corners[0][0] == corners[3][0] < corners[1][0] == corners[2][0]


def test_what_is_below_zero_is_drawn_at_zero():
    svg = drawn(series("PGD", [0.4, 0.3, 0.0], low=[0.3, 0.2, -0.1], high=[0.5, 0.4, 0.1]))
    lowest = max(float(y) for band in of_class(svg, "band") for y in re.findall(r" ([\d.]+)", band.get("d")))
    assert lowest == marks(svg)["PGD at epsilon 0.4: 0.0000 [−0.1000, 0.1000]"][1]  # noqa: RUF001


def test_everything_lies_within_the_picture():
    names = [f"an attack with the long name {place}" for place in range(20)]
    svg = drawn(*(series(name, [0.4, 0.01, 0.0]) for name in names))
    _, _, width, height = map(float, svg.get("viewBox").split())
    labels = of_class(svg, "label")
    assert len(labels) == 21  # and the clean value
    for label in labels:
        shown = list(label.itertext())[-1]
        assert float(label.get("x")) + charts.CHARACTER * len(shown) <= width
        assert 0 <= float(label.get("y")) <= height
    gaps = [after - before for before, after in itertools.pairwise(sorted(float(text.get("y")) for text in labels))]
    assert min(gaps) >= charts.LABEL_GAP - 0.1
    assert all(0 <= x <= width and 0 <= y <= height for x, y in marks(svg).values())


def test_no_two_lines_look_alike_and_neighbours_differ_in_dash_and_marker():
    curve = {"series": [series(f"attack {place}", []) for place in range(30)]}
    curve["series"] += [series(kind, [], kind) for kind in ("certified", "held_out", "worst_of", "noise")]
    styles = list(charts.styles([curve]).values())
    assert len({style[1:] for style in styles}) == 34
    for one, other in itertools.pairwise(styles):
        assert one.colour != other.colour
        assert one.dash != other.dash
        assert one.marker != other.marker


def test_a_series_looks_the_same_in_all_charts():
    first = {"series": [series("PGD", []), series("certified", [], "certified")]}
    second = {"series": [series("FGSM", []), series("PGD", [])]}
    styles = charts.styles([first, second])
    assert list(styles) == ["certified", "PGD", "FGSM"]
    one, other = (
        charts.lines(curve | {"clean": 0.5}, styles, x_title="epsilon", y_title="NDCG")
        for curve in (
            {"series": [series("PGD", [0.4, 0.3, 0.2]), series("certified", [0.1, 0, 0], "certified")]},
            {"series": [series("FGSM", [0.4, 0.3, 0.2]), series("PGD", [0.4, 0.3, 0.2])]},
        )
    )
    looks = [
        (group.get("style"), of_class(group, "line")[0].get("stroke-dasharray"))
        for svg in (one, other)
        for group in of_class(svg, "series")
        if "PGD at epsilon 0.1: 0.4000" in list(group.itertext())
    ]
    assert len(looks) == 2
    assert looks[0] == looks[1]


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([50.0], [50.0]),
        ([10.0, 50.0], [10.0, 50.0]),
        ([50.0, 50.0, 50.0], [50.0, 60.0, 70.0]),
        ([95.0, 100.0, 100.0], [80.0, 90.0, 100.0]),
        ([-5.0, 0.0], [0.0, 10.0]),
    ],
)
def test_labels_are_spread_as_little_as_need_be(heights, expected):
    assert charts.spread(heights, low=0, high=100, gap=10) == expected


@pytest.mark.parametrize("high", [1e-7, 0.0447, 0.1, 0.3, 1, 7, 1234.5])
def test_the_axis_reaches_above_the_highest_value_in_round_steps(high):
    svg = drawn(series("PGD", [high, high / 2, 0.0]), clean=high)
    shown = [float(text.text) for text in of_class(svg, "tick") if text.get("text-anchor") == "end"]
    assert shown[0] == 0
    assert high * (1 - 1e-6) <= shown[-1] <= 1.5 * high
    assert 4 <= len(shown) <= 8
    np.testing.assert_allclose(np.diff(shown), shown[1], rtol=1e-4)


def test_a_dumbbell_stands_for_each_group():
    group = {"name": "tail", "users": 1240, "clean": 0.4, "attacked": 0.1, "low": -0.1, "high": 0.2}
    unknown = group | {"name": "cold", "clean": None, "attacked": None, "low": None, "high": None}
    svg = charts.dumbbells([group, unknown], x_title="NDCG@10")
    text = " ".join(svg.itertext())
    for shown in ("tail: 0.4000 to 0.1000 [−0.1000, 0.2000]", "1,240 users", "−75%", "cold"):  # noqa: RUF001
        assert shown in text
    before, after = of_class(svg, "before"), of_class(svg, "after")
    assert len(before) == len(after) == 1
    assert float(after[0].get("cx")) < float(before[0].get("cx"))


def test_pictures_have_a_name_for_those_who_do_not_see_them():
    svg = drawn(series("PGD", [0.4, 0.3, 0.2]))
    assert svg.get("role") == "img"
    assert svg.get("aria-label").startswith("NDCG@10 against epsilon. ")
    assert "PGD 0.2000" in svg.find("desc").text
