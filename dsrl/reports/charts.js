// Curves as SVG. A chart: {title, about, series, phases, marks, pick}, with series {label, x, y, low, high, color, kind};
// kind is "line", "points" (joined) or "faint"; colors are numbers of the palette in page.css. pick(x) is called when
// a reader chooses a place.

const MARGIN = { left: 52, right: 12, top: 20, bottom: 30 };
const HEIGHT = 220;

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.7);
  const ticks = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step)
    ticks.push(Math.abs(value) < step * 1e-6 ? 0 : value);
  return ticks;
}

function rangeOf(values, pad) {
  let low = Infinity,
    high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) * pad, high + Math.abs(low) * pad];
  return [low - (high - low) * pad, high + (high - low) * pad];
}

// The mean of the values so far, the older ones of less weight: strength 0 (none) to 0.95.
function smoothed(values, strength) {
  let mean = 0,
    weight = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    mean = strength * mean + (1 - strength) * value;
    weight = strength * weight + (1 - strength);
    return mean / weight;
  });
}

function pathOf(xs, ys, at, up) {
  let text = "",
    pen = "M";
  xs.forEach((x, i) => {
    if (ys[i] === null || ys[i] === undefined) {
      pen = "M";
      return;
    }
    text += pen + at(x).toFixed(1) + " " + up(ys[i]).toFixed(1);
    pen = "L";
  });
  return text;
}

function bandOf(one, at, up) {
  const there = one.x.map((_, i) => i).filter((i) => one.low[i] !== null && one.high[i] !== null);
  if (there.length < 2) return "";
  const above = there.map((i) => at(one.x[i]).toFixed(1) + " " + up(one.high[i]).toFixed(1));
  const below = there.reverse().map((i) => at(one.x[i]).toFixed(1) + " " + up(one.low[i]).toFixed(1));
  return "M" + above.concat(below).join("L") + "Z";
}

function chart(spec) {
  const readout = el("p", { class: "readout", "aria-live": "off" });
  const holder = el("div", { class: "plot" });
  const legend = el(
    "ul",
    { class: "legend" },
    spec.series
      .filter((one) => one.label)
      .map((one) =>
        el(
          "li",
          {},
          el("span", {
            class: "swatch c" + one.color + (one.kind === "points" ? " dot" : ""),
            "aria-hidden": "true",
          }),
          one.label,
        ),
      ),
  );
  const figure = el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, el("strong", {}, spec.title), spec.about ? " " + spec.about : ""),
    legend,
    holder,
    readout,
  );
  let strength = 0,
    chosen = null,
    pointed = false, // pointed: chosen by a pointer, which may leave
    show = () => {};
  const places = [...new Set(spec.series.filter((one) => one.kind !== "faint").flatMap((one) => one.x))].sort(
    (a, b) => a - b,
  );
  const say = () => {
    readout.textContent = chosen === null ? "" : describe(spec, chosen);
  };

  function draw() {
    const width = Math.max(260, holder.clientWidth || 460);
    const series = spec.series.flatMap((one) =>
      strength && one.kind === "line" && !one.low
        ? [
            { ...one, kind: "faint" },
            { ...one, y: smoothed(one.y, strength) },
          ]
        : [one],
    );
    const [left, right] = rangeOf(places, 0.01);
    const [bottom, top] = rangeOf(
      series.flatMap((one) => [...one.y, ...(one.low || []), ...(one.high || [])]),
      0.06,
    );
    const at = (x) => MARGIN.left + ((x - left) / (right - left)) * (width - MARGIN.left - MARGIN.right);
    const up = (y) =>
      HEIGHT - MARGIN.bottom - ((y - bottom) / (top - bottom)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      role: "img",
      tabindex: "0",
      "aria-label": summary(spec),
    });
    spec.phases.forEach((phase, number) => {
      const begin = Math.max(MARGIN.left, at(phase.first - 0.5)),
        end = Math.min(width - MARGIN.right, at(phase.last + 0.5));
      if (number % 2 === 0 && spec.phases.length > 1)
        picture.append(
          svg("rect", {
            class: "phase",
            x: begin,
            y: MARGIN.top,
            width: Math.max(0, end - begin),
            height: HEIGHT - MARGIN.top - MARGIN.bottom,
          }),
        );
      if (number)
        picture.append(
          svg(
            "line",
            { class: "handoff", x1: begin, x2: begin, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom },
            svg("title", {}, handoff(phase)),
          ),
        );
      if (spec.phases.length > 1 && (end - begin > 40 || number === 0 || number === spec.phases.length - 1))
        picture.append(svg("text", { class: "phase-name", x: begin + 3, y: MARGIN.top - 6 }, phase.objective));
    });
    for (const y of niceTicks(bottom, top, 4)) {
      picture.append(
        svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: up(y), y2: up(y) }),
        svg("text", { class: "tick", x: MARGIN.left - 6, y: up(y) + 4, "text-anchor": "end" }, format(y)),
      );
    }
    for (const x of niceTicks(left, right, Math.max(3, width / 90)).filter(Number.isInteger))
      picture.append(svg("text", { class: "tick", x: at(x), y: HEIGHT - 12, "text-anchor": "middle" }, format(x)));
    for (const one of series) {
      if (one.low) picture.append(svg("path", { class: "band c" + one.color, d: bandOf(one, at, up) }));
      picture.append(svg("path", { class: "curve " + one.kind + " c" + one.color, d: pathOf(one.x, one.y, at, up) }));
      const single = one.x.length < 2;
      if (one.kind === "points" || single)
        one.x.forEach((x, i) => {
          if (one.y[i] !== null && one.y[i] !== undefined)
            picture.append(svg("circle", { class: "point c" + one.color, cx: at(x), cy: up(one.y[i]), r: 3 }));
        });
    }
    for (const one of spec.marks || [])
      if (one.iteration !== null)
        picture.append(
          svg(
            "text",
            { class: "alarm", x: at(one.iteration), y: HEIGHT - MARGIN.bottom, "text-anchor": "middle" },
            svg("title", {}, alarm(one)),
            "▲",
          ),
        );
    const cross = svg("line", { class: "cross", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
    picture.append(cross);
    show = () => {
      cross.setAttribute("visibility", chosen === null ? "hidden" : "visible");
      if (chosen !== null) {
        cross.setAttribute("x1", at(chosen));
        cross.setAttribute("x2", at(chosen));
      }
      say();
    };
    const nearest = (event) => {
      const box = picture.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * width;
      return places.reduce(
        (best, place) => (Math.abs(at(place) - x) < Math.abs(at(best) - x) ? place : best),
        places[0],
      );
    };
    picture.addEventListener("pointermove", (event) => {
      chosen = nearest(event);
      pointed = true;
      show();
    });
    picture.addEventListener("pointerleave", () => {
      if (pointed) {
        chosen = null;
        show();
      }
    });
    picture.addEventListener("click", (event) => {
      chosen = nearest(event);
      show();
      if (spec.pick) spec.pick(chosen);
    });
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        const place = chosen === null ? (step > 0 ? -1 : places.length) : places.indexOf(chosen);
        chosen = places[Math.min(places.length - 1, Math.max(0, place + step))];
        pointed = false;
        event.preventDefault();
        show();
      } else if (event.key === "Enter" && chosen !== null && spec.pick) spec.pick(chosen);
    });
    show();
    holder.replaceChildren(picture);
  }

  let drawn = 0;
  new ResizeObserver(() => {
    if (holder.clientWidth && holder.clientWidth !== drawn) {
      drawn = holder.clientWidth;
      draw();
    }
  }).observe(holder);
  return {
    node: figure,
    // Point at the place of the chart that is nearest to x.
    point: (x) => {
      if (!places.length) return;
      chosen = places.reduce((best, place) => (Math.abs(place - x) < Math.abs(best - x) ? place : best));
      pointed = false;
      show();
    },
    smooth: (value) => {
      strength = value;
      draw();
    },
  };
}

function handoff(phase) {
  return `handoff to ${phase.objective}${phase.reason ? `, since ${phase.reason}` : ""}`;
}

function alarm(warning) {
  const run = warning.run ? ` of ${warning.run}` : "";
  return `warning, ${warning.monitor}${run}: ${[warning.figure, warning.why, warning.remedy].filter(Boolean).join(" ")}`;
}

function describe(spec, x) {
  const values = spec.series
    .filter((one) => one.kind !== "faint")
    .flatMap((one) => {
      const i = one.x.indexOf(x);
      if (i < 0 || one.y[i] === null || one.y[i] === undefined) return [];
      const interval = one.low && one.low[i] !== null ? ` (${format(one.low[i])} to ${format(one.high[i])})` : "";
      return [`${one.label || spec.title} ${format(one.y[i])}${interval}`];
    });
  const events = [
    ...spec.phases.slice(1).filter((phase) => phase.first === x).map(handoff),
    ...(spec.marks || []).filter((one) => one.iteration === x).map(alarm),
  ];
  return [`iteration ${x}: ${values.join(", ") || "–"}`, ...events, ...(spec.pick ? ["click for its samples"] : [])].join(
    " · ",
  );
}

function summary(spec) {
  const parts = spec.series
    .filter((one) => one.kind !== "faint")
    .map((one) => {
      const there = one.y.map((_, i) => i).filter((i) => one.y[i] !== null && one.y[i] !== undefined);
      if (!there.length) return "";
      const [first, last] = [there[0], there[there.length - 1]];
      return `${one.label}: ${format(one.y[first])} at ${one.x[first]}, ${format(one.y[last])} at ${one.x[last]}`;
    });
  return `${spec.title}. ${parts.filter(Boolean).join("; ")}. Arrow keys read values${spec.pick ? ", Enter shows samples" : ""}.`;
}
