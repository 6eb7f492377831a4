"use strict";
// Draws the charts of a report. Options come from lightning_nas.charts; lists of changes turn one into another.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const PRINTED_PX = 820; // paper is some 680 wide, to which the style sheet makes charts smaller
  const LARGE = 300_000; // characters of an option: about 2,000 points
  const plots = new Map();
  let isPrinted = false;

  // What `changes` in embedding.py found: pairs of a path and a value; without a value it goes away.
  function changed(option, changes) {
    let result = structuredClone(option);
    for (const change of changes) {
      const path = change[0];
      if (path.length === 0) {
        result = structuredClone(change[1]);
        continue;
      }
      const last = path[path.length - 1];
      const place = path.slice(0, -1).reduce((value, key) => value[key], result);
      if (change.length === 2) place[last] = change[1];
      else delete place[last];
    }
    return result;
  }

  function draw(name) {
    const { drawn, step } = plots.get(name);
    if (drawn === null) return;
    const chart = data.charts[name];
    const option = changed(chart.option, step);
    drawn.setOption(dark.matches && !isPrinted ? changed(option, chart.dark) : option, { notMerge: true });
  }

  // A chart in a closed part of the page has no size; it is made when it gets one.
  function fit(place) {
    const name = place.dataset.chart;
    const plot = plots.get(name);
    if (isPrinted || place.clientWidth === 0) return;
    if (plot.drawn !== null) return plot.drawn.resize();
    // Vectors print sharply and all at once; thousands of points are faster as pixels.
    const isLarge = JSON.stringify(data.charts[name].option).length > LARGE;
    plot.drawn = echarts.init(place, null, { renderer: isLarge ? "canvas" : "svg" });
    draw(name);
  }

  for (const place of document.querySelectorAll("[data-chart]")) {
    plots.set(place.dataset.chart, { place, drawn: null, step: [] });
    fit(place);
    new ResizeObserver(() => fit(place)).observe(place);
  }
  dark.addEventListener("change", () => plots.forEach((_, name) => draw(name)));

  for (const part of document.querySelectorAll("[data-search]")) {
    const search = data.searches[part.dataset.search];
    const input = part.querySelector("input");
    const drawings = [...part.querySelectorAll("[data-drawing]")];
    const move = () => {
      const position = Number(input.value);
      part.querySelector("output").textContent = search.words[position];
      drawings.forEach((each, i) => (each.hidden = i !== search.drawings[position]));
      for (const [name, changes] of Object.entries(search.steps[position])) {
        plots.get(name).step = changes;
        draw(name);
      }
    };
    input.addEventListener("input", move);
    move(); // a browser keeps the slider's place when a page is loaded again
  }

  let opened = [];

  addEventListener("beforeprint", () => {
    isPrinted = true;
    opened = [...document.querySelectorAll("details:not([open]):not(.long)")];
    opened.forEach((each) => (each.open = true));
    for (const [name, { place, drawn }] of plots) {
      if (drawn === null) continue;
      const share = place.closest(".half") ? 0.48 : place.closest(".beside") ? 0.58 : 1;
      const tall = place.closest(".beside") ? "--narrow" : "--printed";
      const width = Math.round(PRINTED_PX * share);
      const height = parseInt(place.style.getPropertyValue(tall));
      drawn.resize({ width, height });
      draw(name);
      drawn.getZr().flush(); // the page is taken before the next frame
      place.querySelector("svg")?.setAttribute("viewBox", `0 0 ${width} ${height}`);
    }
  });
  addEventListener("afterprint", () => {
    isPrinted = false;
    opened.forEach((each) => (each.open = false));
    for (const [name, { place, drawn }] of plots) {
      place.querySelector("svg")?.removeAttribute("viewBox");
      drawn?.resize({ width: "auto", height: "auto" });
      draw(name);
    }
  });
})();
