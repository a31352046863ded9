// Draws charts with uPlot, from what stands in `data-chart` of each `.plot`. The list below a chart is its legend.
"use strict";

window.charts = (() => {
  const drawn = new WeakMap();
  const styles = new Map();  // asked for once: each asking after a change of the page would work all styles out anew
  function style(name) {
    if (!styles.has(name)) styles.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
    return styles.get(name);
  }
  const colour = (n) => style(`--series-${(n % 8) + 1}`);

  // -- values as people read them, as the server writes them ----------------------------------------------------------
  const binary = ["", "Ki", "Mi", "Gi", "Ti", "Pi"], decimal = ["", "k", "M", "G", "T", "P"];
  function rounded(value) {
    const size = Math.abs(value);
    const digits = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : Math.min(2 - Math.floor(Math.log10(size)), 8);
    return String(Number(value.toFixed(digits)));
  }
  function prefixed(value, step, prefixes, unit) {
    let power = 0;
    while (Math.abs(value) >= step && power < prefixes.length - 1) {
      value /= step;
      power += 1;
    }
    return `${rounded(value)} ${prefixes[power]}${unit}`.trim();
  }
  function shown(value, format) {
    if (value === null || value === undefined) return "–";
    switch (format.kind) {
      case "percent": return `${rounded(value * 100)} %`;
      case "bytes": return prefixed(value * format.factor, 1024, binary, `B${format.per}`);
      case "seconds": {
        const seconds = value * format.factor;
        const size = Math.abs(seconds);
        if (size === 0) return "0 s";
        if (size < 1e-3) return `${rounded(seconds * 1e6)} µs`;
        if (size < 1) return `${rounded(seconds * 1e3)} ms`;
        if (size < 120) return `${rounded(seconds)} s`;
        if (size < 7200) return `${rounded(seconds / 60)} min`;
        return size < 172800 ? `${rounded(seconds / 3600)} h` : `${rounded(seconds / 86400)} d`;
      }
      case "plain": return `${rounded(value)} ${format.unit}${format.per}`.trim();
      default: return prefixed(value, 1000, decimal, `${format.unit}${format.per}`);
    }
  }

  const powers = Array.from({ length: 60 }, (_, n) => 2 ** n);
  const two = (number) => String(number).padStart(2, "0");
  function times(ticks, length) {
    return ticks.map((tick) => {
      const at = new Date(tick * 1000);
      const midnight = at.getHours() === 0 && at.getMinutes() === 0;
      if (length > 172800 || midnight) return at.toLocaleDateString([], { month: "short", day: "numeric" });
      return `${two(at.getHours())}:${two(at.getMinutes())}${length < 600 ? `:${two(at.getSeconds())}` : ""}`;
    });
  }

  // -- one chart ------------------------------------------------------------------------------------------------------
  function legendOf(plot) {
    const figure = plot.closest("figure");
    const own = figure?.querySelectorAll(".legend [data-value]") || [];
    return [...(own.length ? own : figure?.classList.contains("wide") ? document.querySelectorAll("#figures [data-value]") : [])];
  }

  function options(plot, chart, size) {
    const line = style("--line"), quiet = style("--quiet");
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", gap: 4 };
    const stacked = chart.stacked;
    return {
      ...size,
      padding: [8, 26, 0, 0],
      cursor: { sync: { key: "charts", setSeries: false }, points: { size: 6 }, drag: { x: true, y: false, setScale: false } },
      legend: { show: false },
      scales: {
        x: { time: true, range: () => [chart.start, chart.end] },
        y: { range: (u, low, high) => scaleOf(chart, low, high) },
      },
      axes: [
        { ...axis, space: 64, size: 22, values: (u, ticks) => times(ticks, chart.end - chart.start) },
        { ...axis, size: 62, space: 28, incrs: chart.format.kind === "bytes" ? powers : undefined, values: (u, ticks) => ticks.map((tick) => shown(tick, chart.format)) },
      ],
      series: [{}, ...chart.lines.map((each, n) => ({
        label: each.label,
        stroke: colour(n),
        width: 1.5,
        fill: stacked ? `color-mix(in srgb, ${colour(n)} 35%, transparent)` : chart.lines.length === 1 ? `color-mix(in srgb, ${colour(n)} 12%, transparent)` : undefined,
        points: { show: true, filter: alone },
        spanGaps: false,
      }))],
      bands: stacked ? chart.lines.slice(1).map((_, n) => ({ series: [n + 2, n + 1] })) : undefined,
      hooks: {
        setCursor: [(u) => follow(plot, u)],
        setSelect: [(u) => choose(u)],
      },
    };
  }

  // Which values have none beside them: no line leads there.
  function alone(u, n) {
    const values = u.data[n], found = [];
    const known = (value) => value !== null && value !== undefined;
    values.forEach((value, at) => {
      if (known(value) && !known(values[at - 1]) && !known(values[at + 1])) found.push(at);
    });
    return found;
  }

  function scaleOf(chart, low, high) {
    if (low === null || high === null) return [0, 1];
    const least = chart.least ?? low, most = chart.most ?? high;
    let from = Math.min(least, low), to = Math.max(most, high);
    if (chart.least === null && from > 0 && from < to * 0.6) from = 0;
    if (from === to) {
      from = from > 0 ? 0 : from - 1;
      to = to === 0 ? 1 : to * 1.25;
    }
    return [from, chart.most === null ? to + (to - from) * 0.06 : to];
  }

  // The values under the pointer, in the legend; without a pointer, the last ones.
  function follow(plot, u) {
    const chart = drawn.get(plot)?.chart;
    if (!chart) return;
    const at = u.cursor.idx;
    legendOf(plot).forEach((each, n) => {
      const values = chart.lines[n]?.values || [];
      each.textContent = shown(at === null || at === undefined || u.cursor.left < 0 ? chart.lines[n]?.last : values[at], chart.format);
    });
    const when = plot.closest("figure")?.querySelector("[data-when]");
    if (when) {
      const inside = at !== null && at !== undefined && u.cursor.left >= 0;
      when.textContent = inside ? new Date(chart.times[at] * 1000).toLocaleString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", month: "short", day: "numeric" }) : "";
      const logs = plot.closest("figure").querySelector("a[data-logs]");
      if (logs && inside) {
        const url = new URL(logs.getAttribute("href"), location.href);
        const minute = Math.floor(chart.times[at] / 60) * 60000;
        url.searchParams.set("from", new Date(minute).toISOString().replace(".000", ""));
        url.searchParams.set("to", new Date(minute + Math.max(60000, chart.step * 1000)).toISOString().replace(".000", ""));
        logs.href = url.pathname + url.search;
      }
    }
  }

  // What is marked becomes the range of the page.
  function choose(u) {
    if (u.select.width < 8) return;
    const [from, to] = [u.select.left, u.select.left + u.select.width].map((left) => Math.round(u.posToVal(left, "x") * 1000));
    const url = new URL(location.href);
    url.searchParams.delete("range");
    url.searchParams.set("from", new Date(from).toISOString());
    url.searchParams.set("to", new Date(to).toISOString());
    location.assign(url);
  }

  function data(chart) {
    if (!chart.stacked) return [chart.times, ...chart.lines.map((each) => each.values)];
    const sums = chart.times.map(() => 0);
    return [chart.times, ...chart.lines.map((each) => each.values.map((value, at) => (value === null ? null : (sums[at] += value))))];
  }

  const sizeOf = (plot) => ({ width: plot.clientWidth, height: plot.clientHeight });

  function draw(plot, size = sizeOf(plot)) {
    let chart;
    try {
      chart = JSON.parse(plot.dataset.chart);
      chart.times = Array.from({ length: chart.count }, (_, n) => chart.first + n * chart.step);
      for (const line of chart.lines) line.last = line.values.findLast((value) => value !== null);
    } catch {
      return false;
    }
    const before = drawn.get(plot);
    const shape = JSON.stringify([chart.lines.map((each) => each.label), chart.format, chart.stacked]);
    if (before && before.shape === shape) {
      Object.assign(before.chart, chart);
      before.plot.setData(data(chart));
      follow(plot, before.plot);
      return true;
    }
    before?.plot.destroy();
    plot.replaceChildren();
    const u = new uPlot(options(plot, chart, size), data(chart), plot);
    drawn.set(plot, { plot: u, chart, shape });
    plot.dataset.drawn = "1";
    resized.observe(plot);
    if (!before) {
      plot.addEventListener("keydown", (event) => step(plot, event));
      plot.addEventListener("dblclick", () => plot.closest("figure")?.querySelector("a[data-logs]")?.click());
    }
    return true;
  }

  function step(plot, event) {
    const u = drawn.get(plot).plot, by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (event.key === "Enter") plot.closest("figure")?.querySelector("a[data-logs]")?.click();
    if (by === undefined) return;
    event.preventDefault();
    const last = u.data[0].length - 1;
    const at = Math.max(0, Math.min(last, (u.cursor.left >= 0 && u.cursor.idx !== null ? u.cursor.idx : last + 1) + by));
    u.setCursor({ left: u.valToPos(u.data[0][at], "x"), top: u.bbox.height / devicePixelRatio / 2 });
  }

  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const u = drawn.get(target)?.plot;
      if (u && target.clientWidth && (u.width !== target.clientWidth || u.height !== target.clientHeight)) {
        u.setSize({ width: target.clientWidth, height: target.clientHeight });
      }
    }
  });

  // A chart is drawn when it comes near the window. Until then, what the server drew stands in its place.
  const near = new IntersectionObserver((entries) => {
    const plots = entries.filter((each) => each.isIntersecting && !drawn.has(each.target)).map((each) => each.target);
    const sizes = plots.map(sizeOf);  // before the first is drawn, after which the page would have to be laid out anew
    plots.forEach((plot, n) => {
      near.unobserve(plot);
      draw(plot, sizes[n]);
    });
  }, { rootMargin: "200px 0px" });

  function drawAll(within) {
    for (const plot of within.querySelectorAll(".plot[data-chart]")) if (!drawn.has(plot)) near.observe(plot);
  }

  // Draws what is new in a chart; false where it is not drawn yet.
  const update = (plot) => drawn.has(plot) && draw(plot);

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    styles.clear();
    for (const plot of document.querySelectorAll(".plot[data-drawn]")) {
      drawn.get(plot).shape = "";
      draw(plot);
    }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copies]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copies)?.textContent || "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = button.dataset.word || "Copy"; }, 2000);
  });

  return { update, drawAll };
})();
