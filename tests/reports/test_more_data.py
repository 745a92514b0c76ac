"""What more examples would bring is read off a line through errors of growing parts."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports.more_data import Forecast, draw, forecast


def table(accuracies: list[float]) -> pd.DataFrame:
    counts = [100 * 2**number for number in range(len(accuracies))]
    return pd.DataFrame({"examples": counts, "val_accuracy": accuracies})


def test_errors_that_halve_with_every_doubling_halve_once_more():
    line = forecast(table([0.6, 0.8, 0.9, 0.95]))
    assert line.numbers[[0, -1]] == pytest.approx([100, 1600])
    assert line.errors[-1] == pytest.approx(0.025)


def test_errors_that_rise_are_not_expected_to_rise_further():
    line = forecast(table([0.9, 0.88, 0.86]))
    assert line.errors == pytest.approx([(0.1 * 0.12 * 0.14) ** (1 / 3)] * len(line.errors))


@pytest.mark.parametrize("accuracies", [[0.9, 0.95], [0.5, 1.0, 1.0, 1.0], [0.8, 0.9, 0.95, 1.0]])
def test_nothing_is_said_of_too_few_points_and_of_no_errors(accuracies):
    assert forecast(table(accuracies)) is None


@pytest.mark.parametrize("accuracies", [[0.9921, 0.9925, 0.9931], [0.1, 0.5, 1.0]])
def test_no_label_of_the_figure_is_cut(accuracies):
    line = Forecast(np.array([100.0, 800.0]), 1 - np.array(accuracies[:2]))
    figure = draw(table(accuracies), line, "pictures", "validation accuracy")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn, page = figure.axes[0].get_tightbbox(canvas.get_renderer()), figure.bbox
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= page.width
    assert drawn.y1 <= page.height


def test_the_figure_has_the_points_and_the_doubling():
    measured = table([0.6, 0.8, 0.9, 0.95])
    figure = draw(measured, forecast(measured), "pictures", "right on val")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "training pictures"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "200", "400", "800", "1,600"]
