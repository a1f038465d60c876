// Evaluations against the first of them: differences, and the questions that changed sides with some of their responses.

function evaluations(data, browser) {
  if (!data.evaluations.length || !browser) return null;
  return section(
    "evaluations",
    "Evaluations",
    data.evaluations.map((one) => {
      const names = [data.runs[one.first].name, data.runs[one.second].name];
      return [
        el("h3", {}, `${names[1]} less ${names[0]}`),
        table(
          ["", ...names, "difference", "95% interval", "questions"],
          one.rows.map((row) => [
            row.measure,
            format(row.first),
            format(row.second),
            signed(row.difference),
            row.low === null
              ? ""
              : el(row.low > 0 || row.high < 0 ? "strong" : "span", {}, `${signed(row.low)} to ${signed(row.high)}`),
            format(row.questions),
          ]),
          "Paired by question; 95% intervals over questions, in bold where they leave out 0",
          names[1],
        ),
        changed(`${one.changed[0]} gained`, `mostly right in ${names[1]} alone`, one.gained, names, data, browser),
        changed(`${one.changed[1]} lost`, `mostly right in ${names[0]} alone`, one.lost, names, data, browser),
      ];
    }),
  );
}

function signed(value) {
  return (value > 0 ? "+" : "") + format(value);
}

function changed(title, about, questions, names, data, browser) {
  const list = el("div", {});
  const fold = el(
    "details",
    {
      class: "card",
      ontoggle: () => {
        if (fold.open && !list.children.length) list.append(...questions.map((one) => question(one, names, data, browser)));
      },
    },
    el("summary", {}, title, " ", el("small", {}, about)),
    list,
  );
  return fold;
}

function question(one, names, data, browser) {
  const title = names.map((name, i) => `${name}: ${one.shares[i][0]} of ${one.shares[i][1]} right`).join(" · ");
  return el(
    "article",
    { class: "group", "aria-label": title },
    el("h4", {}, title),
    el("div", { class: "prompt" }, long(one.prompt, [], 0, [])),
    el(
      "div",
      { class: "sides" },
      one.places.map((rows, i) =>
        el(
          "div",
          {},
          el("p", { class: "quiet" }, names[i]),
          rows.map((row) => browser.response(data.samples.rows[row])),
        ),
      ),
    ),
  );
}
