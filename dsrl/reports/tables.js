// The head of each run, and the tables: moments of a run, its time, comparisons, configurations.

// of: the run that it is of, where there are several such tables.
function table(columns, rows, caption, of = "") {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": of ? `${caption}, ${of}` : caption },
    el(
      "table",
      {},
      el("caption", {}, caption),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map((name) => (name ? el("th", { scope: "col" }, name) : el("td"))),
        ),
      ),
      el(
        "tbody",
        {},
        rows.map(([name, ...cells]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, name),
            cells.map((cell) => el("td", {}, cell)),
          ),
        ),
      ),
    ),
  );
}

function withHalf(value, half, digits) {
  const text = (number) => (digits === 0 ? Math.round(number).toLocaleString("en") : number.toFixed(digits));
  return half === null || half === undefined ? text(value) : `${text(value)} ± ${text(half)}`;
}

function momentCell(cell) {
  if (!cell) return "";
  return [withHalf(cell.value, cell.half, 3), el("small", {}, ` after ${cell.at}`)];
}

function overview(run) {
  const facts = el(
    "dl",
    { class: "facts" },
    run.head.map(([label, text]) => {
      const command = label.startsWith("Command") || label === "Folder";
      return [el("dt", {}, label), el("dd", {}, command ? el("code", {}, text) : text)];
    }),
  );
  const alerts = [
    ...run.warnings.map((one) =>
      el(
        "li",
        {},
        el("strong", {}, `Warning, ${one.monitor}, iteration ${one.iteration}: ${one.figure}`),
        el("p", {}, one.why, " ", el("em", {}, one.remedy)),
      ),
    ),
    ...run.notes.map((text) => el("li", {}, text)),
  ];
  const parts = [facts];
  if (alerts.length) parts.unshift(el("ul", { class: "notes" }, alerts));
  if (run.moments.rows.length)
    parts.unshift(
      table(
        ["", ...run.moments.columns],
        run.moments.rows.map((row) => [row.measure, ...row.cells.map(momentCell)]),
        "± reaches to the farther end of the 95% interval over questions, where it is known how many there are",
        run.name,
      ),
    );
  if (run.results.length)
    parts.unshift(
      table(
        ["", "value", "95% interval", "questions"],
        run.results.map((row) => [
          row.measure,
          format(row.value),
          row.low === null ? "" : `${format(row.low)} to ${format(row.high)}`,
          format(row.questions),
        ]),
        "Results of the evaluation; 95% intervals over questions",
        run.name,
      ),
    );
  return parts;
}

function overviews(data) {
  if (data.runs.length === 1) return section("run", "Run", overview(data.runs[0]));
  return section(
    "run",
    "Runs",
    data.runs.map((run) => el("details", { class: "card" }, el("summary", {}, run.name), overview(run))),
  );
}

const DIFFERENCES_AT_ONCE = 12;

function comparison(data) {
  if (data.runs.length < 2) return null;
  const labels = data.groups.map((group) => `${group.label} (${group.runs.length})`);
  const cell = (one, digits) => {
    if (!one) return "";
    const difference =
      one.difference === undefined
        ? null
        : el(
            "small",
            {},
            ` ${one.difference > 0 ? "+" : ""}${withHalf(one.difference, one.difference_half, digits)}`,
          );
    return [withHalf(one.mean, one.half, digits), difference];
  };
  return section(
    "comparison",
    "Comparison",
    table(
      ["", ...labels],
      data.compared.map((row) => [row.measure, ...row.cells.map((one) => cell(one, row.digits))]),
      "Mean over runs ± 95% by Student's t; in small the difference from the first, paired by seed where both have the same seeds",
    ),
    data.differences.length
      ? el(
          "details",
          { open: data.differences.length <= DIFFERENCES_AT_ONCE },
          el("summary", {}, `${data.differences.length} keys of the configurations differ`),
          table(
            ["", ...labels],
            data.differences.map(([key, values]) => [
              key,
              ...values.map((value) =>
                value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value),
              ),
            ]),
            "What differs between the configurations",
          ),
        )
      : el("p", {}, "The runs have one configuration, seeds and folders aside."),
  );
}

const STAGE_COLORS = { sample: 1, verify: 2, score: 3, update: 4, sync: 5, other: 8 };

function times(data) {
  const timed = data.runs.filter((run) => run.stages.length);
  if (!timed.length) return null;
  return section(
    "time",
    "Time",
    timed.map((run) => {
      const shares = el(
        "div",
        {
          class: "bar",
          role: "img",
          "aria-label": run.stages.map(([name, , share]) => `${name} ${(100 * share).toFixed(0)}%`).join(", "),
        },
        run.stages.map(([name, , share], number) => {
          const part = el("span", { class: "fill c" + (STAGE_COLORS[name] || 1 + (number % 8)) });
          part.style.flexGrow = share;
          return part;
        }),
      );
      const rows = run.stages.map(([name, seconds, share], number) => [
        [
          el("span", { class: "swatch dot c" + (STAGE_COLORS[name] || 1 + (number % 8)), "aria-hidden": "true" }),
          name,
        ],
        seconds.toFixed(1),
        `${(100 * share).toFixed(1)}%`,
        (seconds / Math.max(1, run.iterations)).toFixed(3),
      ]);
      const stages = run.stages.filter(([name]) => run.columns["time/" + name]);
      const curves = chart({
        title: "Seconds of an iteration",
        about: "by stage",
        phases: run.phases,
        pick: null,
        series: stages.map(([name], number) => ({
          label: name,
          x: run.x,
          y: run.columns["time/" + name],
          color: STAGE_COLORS[name] || 1 + (number % 8),
          kind: "line",
        })),
      });
      return el(
        "div",
        { class: "card" },
        data.runs.length > 1 ? el("h3", {}, run.name) : null,
        shares,
        el(
          "div",
          { class: "charts" },
          el("div", {}, table(["stage", "seconds", "share", "s / iteration"], rows, "Where the time went", run.name)),
          curves.node,
        ),
      );
    }),
  );
}

function configurations(data) {
  const known = data.runs.filter((run) => Object.keys(run.config).length);
  if (!known.length) return null;
  return section(
    "configuration",
    "Configuration",
    known.map((run) =>
      el(
        "details",
        { class: "card" },
        el("summary", {}, run.name),
        table(["key", "value"], Object.entries(run.config), "config.yaml", run.name),
      ),
    ),
  );
}
