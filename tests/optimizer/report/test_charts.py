from xml.etree import ElementTree

import numpy as np

from optimizer.report.charts import Fan, Layer, Line, Mark, Panel, Sample, colors_of, draw_distributions, draw_panels

_SAMPLE = np.random.default_rng(5).normal(10.0, 2.0, (30, 12))


def _panel(*content: Line | Fan | Layer | Mark) -> Panel:
    return Panel(title="storage", x_label="week", y_label="hm³", content=content)


def _texts(svg: str) -> list[str]:
    return [(element.text or "").strip() for element in ElementTree.fromstring(svg).iter() if "text" in element.tag]


def test_a_chart_is_sound_xml_that_names_its_axes_and_bands() -> None:
    texts = _texts(draw_panels([[_panel(Fan(sample=_SAMPLE, color="#0072b2"))]], description="a fan"))
    assert {"storage", "week", "hm³", "median", "5 to 95 % of scenarios", "25 to 75 % of scenarios"} <= set(texts)


def test_panels_of_a_row_are_named_once_at_the_left_and_share_a_legend() -> None:
    line = Line(label="cost", values=_SAMPLE[0], color="#000000", low=_SAMPLE[0] - 1, high=_SAMPLE[0] + 1)
    texts = _texts(draw_panels([[_panel(line), _panel(line)]], description="two lines"))
    assert (texts.count("hm³"), texts.count("cost"), texts.count("week")) == (1, 1, 2)


def test_a_stack_names_its_layers() -> None:
    layers = [Layer(label=name, values=np.ones(12), color="#56b4e9") for name in ("hydro", "thermal")]
    assert {"hydro", "thermal"} <= set(_texts(draw_panels([[_panel(*layers)]], description="a stack")))


def test_the_same_data_give_the_same_bytes() -> None:
    samples = [Sample(label="ours", values=_SAMPLE[:, 0], color="#d55e00")]
    first, second = (draw_distributions(samples, x_label="$", description="costs", zero=True) for _ in range(2))
    assert first == second


def test_a_chart_says_what_it_shows_and_takes_its_size_from_the_page() -> None:
    svg = draw_distributions(
        [Sample(label="ours", values=_SAMPLE[:, 0], color="#d55e00")], x_label="$", description='costs & "more"'
    )
    root = ElementTree.fromstring(svg)
    assert (root.get("aria-label"), root.get("width"), root.get("role")) == ('costs & "more"', None, "img")
    assert root.get("viewBox") is not None


def test_colors_begin_anew_when_they_end() -> None:
    names = [str(number) for number in range(9)]
    assert colors_of(names)["0"] == colors_of(names)["7"]


def test_a_mark_stands_behind_the_last_point_with_its_interval() -> None:
    line = Line(label="so far", values=np.arange(12.0), color="#000000")
    mark = Mark(label="in the end", value=20.0, low=18.0, high=25.0, color="#d55e00")
    assert {"so far", "in the end"} <= set(_texts(draw_panels([[_panel(line, mark)]], description="a mark")))
