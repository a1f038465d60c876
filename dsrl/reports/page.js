// The page, put together of its sections.

const COLORS = 8;

function chartsOf(data, browser) {
  const several = data.runs.length > 1;
  const made = [];
  const pick = (run) => (browser ? (x) => browser.show(run, x) : null);
  for (const one of data.charts) {
    if (!several) {
      const run = data.runs[0];
      const series = one.metrics.map((metric, number) => {
        const validated = metric in run.validations;
        const y = validated ? run.validations[metric] : run.columns[metric];
        const halves = run.halves[metric];
        const around = (sign) =>
          y.map((value, i) => (value === null || halves[i] === null ? null : value + sign * halves[i]));
        return {
          label: one.metrics.length > 1 || metric.includes("/") ? metric.replace(/^val\//, "") : metric,
          x: validated ? run.done : run.x,
          y,
          color: 1 + (number % COLORS),
          kind: validated ? "points" : "line",
          ...(halves ? { low: around(-1), high: around(1) } : {}),
        };
      });
      made.push(
        chart({ title: one.title, about: one.about, phases: run.phases, marks: run.warnings, series, pick: pick(0) }),
      );
    } else {
      for (const metric of one.metrics) {
        const series = [];
        data.groups.forEach((group, number) => {
          const color = 1 + (number % COLORS),
            mean = group.curves[metric];
          if (!mean) return;
          if (group.runs.length > 1)
            for (const index of group.runs) {
              const run = data.runs[index],
                validated = metric in run.validations;
              const y = validated ? run.validations[metric] : run.columns[metric];
              if (y) series.push({ label: "", x: validated ? run.done : run.x, y, color, kind: "faint" });
            }
          series.push({
            label: group.label,
            x: mean.x,
            y: mean.mean,
            low: mean.low,
            high: mean.high,
            color,
            kind: metric.startsWith("val/") ? "points" : "line",
          });
        });
        const phases = data.runs.map((run) => run.phases);
        const common = phases.every(
          (own) => JSON.stringify(own.map((p) => p.first)) === JSON.stringify(phases[0].map((p) => p.first)),
        )
          ? phases[0]
          : [];
        made.push(
          chart({
            title: metric.replace(/^val\//, ""),
            about: one.title === metric ? "" : one.title.toLowerCase(),
            phases: common,
            marks: data.runs.flatMap((run) => run.warnings.map((one) => ({ ...one, run: run.name }))),
            series,
            pick: browser ? (x) => browser.show("", x) : null,
          }),
        );
      }
    }
  }
  return made;
}

function curves(data, made, browser) {
  if (!made.length) return null;
  const smoothing = el("input", {
    type: "range",
    min: "0",
    max: "0.95",
    step: "0.05",
    value: "0",
    oninput: (event) => made.forEach((one) => one.smooth(Number(event.target.value))),
  });
  const about =
    data.runs.length > 1
      ? "Each configuration is the mean of its runs with a 95% interval over them; single runs are faint."
      : "Lines are training, dots are held-out questions at the number of iterations before them. Phases are shaded in turn, handoffs dashed.";
  const [first, later] = [made.slice(0, 12), made.slice(12)];
  return section(
    "curves",
    "Curves",
    el("p", { class: "quiet" }, about + (browser ? " A click on a curve shows the samples of that iteration." : "")),
    el("div", { class: "controls" }, el("label", {}, "Smooth ", smoothing)),
    el(
      "div",
      { class: "charts" },
      first.map((one) => one.node),
    ),
    later.length
      ? el(
          "details",
          {},
          el("summary", {}, `${later.length} more`),
          el(
            "div",
            { class: "charts" },
            later.map((one) => one.node),
          ),
        )
      : null,
  );
}

function build() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const title = data.runs.length === 1 ? data.runs[0].name : `${data.runs.length} runs`;
  document.title = visible(`${title} · dsrl report`);
  document.getElementById("title").replaceChildren(el("small", {}, "dsrl report"), " ", title);
  const made = [];
  const point = (x) => {
    made.forEach((one) => one.point(x));
    document.getElementById("curves").scrollIntoView();
  };
  const browser = sampleBrowser(data, data.charts.length ? point : null);
  made.push(...chartsOf(data, browser));
  const main = document.getElementById("main");
  const parts = [
    overviews(data),
    comparison(data),
    evaluations(data, browser),
    curves(data, made, browser),
    browser && browser.node,
    times(data),
    configurations(data),
  ].filter(Boolean);
  main.replaceChildren(
    ...(data.notes.length
      ? [
          el(
            "ul",
            { class: "notes" },
            data.notes.map((text) => el("li", {}, text)),
          ),
        ]
      : []),
    ...parts,
  );
  document
    .getElementById("nav")
    .replaceChildren(...parts.map((part) => el("a", { href: "#" + part.id }, part.querySelector("h2").textContent)));
  document.getElementById("footer").textContent =
    `Made ${data.made} by dsrl ${data.version}. Nothing on this page is loaded from elsewhere.`;
}

addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((one) => {
    if (!one.closest("#configuration")) one.open = true;
  }),
);
build();
