"""Charts of a search, as options of Apache ECharts 6.

Each function takes trials (or what a trial left) and gives the dict that `echarts.setOption` takes: plain JSON
without NaN and without JavaScript, so that a page, a static report and a test draw the same. The colours are
those of a light page; `themed(option, dark=True)` gives a copy for a dark one.

A click on a point of `history`, `durations`, `pareto`, `parallel` and of `curves` with at most 2,000 reports
gives a data item with the key `trial`, the trial's number (`event.data.trial`; in NiceGUI
`on_point_click=lambda e: e.data["trial"]`). In larger `curves` a click on a line gives the series' name,
`trial 7`, alone. The items of `importance` have `searched`, a label, those of `blocks` have `block`. The line of
the best so far cannot be clicked.

Labels, values and metrics are other people's text. They stand in values only, never as a key (NiceGUI runs what
stands under a key that begins with a colon) nor in a formatter; all but tooltips is drawn on the canvas, and
ECharts escapes what its template puts into a tooltip.

An option may have `media`, which ECharts obeys when it is set by `setOption`, so draw it by that alone. To
draw a chart again with other data, set the whole option with `notMerge`.
"""

from lightning_nas.charts.comparing import importance, parallel, pareto
from lightning_nas.charts.networks import alphas, blocks, search_health
from lightning_nas.charts.searches import curves, durations, history, statuses
from lightning_nas.charts.theme import themed

__all__ = [
    "alphas",
    "blocks",
    "curves",
    "durations",
    "history",
    "importance",
    "parallel",
    "pareto",
    "search_health",
    "statuses",
    "themed",
]
