// The sample browser: filters, and the responses of a group side by side. point(x), where there are curves, points at
// an iteration on them.

const GROUPS_AT_ONCE = 8;

function sampleBrowser(data, point) {
  const { columns, rows, texts, classes, tokens } = data.samples;
  if (!rows.length) return null;
  const place = Object.fromEntries(columns.map((name, i) => [name, i]));
  const get = (row, name) => row[place[name]];
  const text = (row, name) => texts[get(row, name)];
  const distinct = (name) => [...new Set(rows.map((row) => get(row, name)))];
  const state = {
    run: "",
    set: "",
    from: "",
    to: "",
    phase: "",
    reward: "",
    finish: "",
    source: "",
    thoughts: "",
    words: "",
    question: null,
  };
  let shown = GROUPS_AT_ONCE;

  const keyOf = (row) =>
    [get(row, "run"), get(row, "set"), get(row, "iteration"), get(row, "question"), get(row, "prompt")].join(":");
  const questionOf = (row) =>
    get(row, "question") === null ? "p" + get(row, "prompt") : [get(row, "set"), get(row, "question")].join(":");
  const verdicts = new Map();
  for (const row of rows) {
    const found = verdicts.get(keyOf(row)) || { right: 0, wrong: 0 };
    if (get(row, "reward") !== null) found[get(row, "reward") > 0.5 ? "right" : "wrong"] += 1;
    verdicts.set(keyOf(row), found);
  }

  const tests = {
    run: (row) => String(get(row, "run")) === state.run,
    set: (row) => String(get(row, "set")) === state.set,
    from: (row) => get(row, "iteration") >= Number(state.from),
    to: (row) => get(row, "iteration") !== null && get(row, "iteration") <= Number(state.to),
    phase: (row) => String(get(row, "phase")) === state.phase,
    reward: (row) => {
      const { right, wrong } = verdicts.get(keyOf(row));
      return {
        right: get(row, "reward") > 0.5,
        wrong: get(row, "reward") !== null && !(get(row, "reward") > 0.5),
        mixed: right > 0 && wrong > 0,
        all_wrong: !right && wrong > 0,
      }[state.reward];
    },
    finish: (row) => String(get(row, "finish")) === state.finish,
    source: (row) => String(get(row, "source")) === state.source,
    thoughts: (row) => {
      const [has, number] = state.thoughts.split(":");
      return get(row, "thoughts").some((mark, i) => i % 3 === 2 && mark === Number(number)) === (has === "with");
    },
    words: (row) => {
      const words = state.words.toLowerCase();
      return [get(row, "response"), text(row, "prompt"), get(row, "answer")].some((own) =>
        own.toLowerCase().includes(words),
      );
    },
    question: (row) => questionOf(row) === state.question,
  };

  const list = el("div", { class: "groups" });
  const count = el("p", { class: "quiet", role: "status" });
  const more = el(
    "button",
    {
      type: "button",
      onclick: () => {
        shown += GROUPS_AT_ONCE;
        update();
      },
    },
    "More",
  );

  function update() {
    const active = Object.keys(tests).filter((name) => state[name] !== "" && state[name] !== null);
    const found = rows.filter((row) => active.every((name) => tests[name](row)));
    const groups = new Map();
    for (const row of found) {
      const key = keyOf(row);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    count.textContent =
      `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} responses, ${groups.size.toLocaleString("en")} groups` +
      (state.question === null ? "" : "; one question, in the order of iterations");
    list.replaceChildren(...[...groups.values()].slice(0, shown).map(group));
    more.hidden = groups.size <= shown;
    clear.hidden = !active.length;
  }

  function change(name, value) {
    state[name] = value;
    shown = GROUPS_AT_ONCE;
    update();
  }

  function verdict(reward) {
    return reward === null ? "no reward" : `${reward > 0.5 ? "✓" : "✗"} reward ${format(reward)}`;
  }

  function response(row) {
    const right = get(row, "reward") > 0.5;
    const facts = [];
    const fact = (label, value) => facts.push(el("dt", {}, label), el("dd", { dir: "auto" }, value));
    fact("answer", [
      get(row, "answer") || "none",
      right ? "" : el("small", {}, ` truth ${text(row, "truth") || "unknown"}`),
    ]);
    for (const [name, value] of Object.entries(get(row, "components"))) fact(name, format(value));
    if (get(row, "advantage") !== null) fact("advantage", format(get(row, "advantage")));
    if (get(row, "kept") !== null) fact("kept", get(row, "kept") ? "yes" : "no");
    if (get(row, "length") !== null) fact("length", `${get(row, "length")} tokens`);
    const finish = text(row, "finish");
    if (finish) fact("end", finish === "length" ? el("strong", { class: "bad" }, "cut off") : finish);
    const card = el(
      "article",
      { class: "response " + (right ? "right" : get(row, "reward") === null ? "" : "wrong") },
      el(
        "header",
        {},
        el("strong", { class: "reward" }, verdict(get(row, "reward"))),
        get(row, "number") === null ? "" : el("small", {}, ` response ${get(row, "number")}`),
      ),
      long(get(row, "response"), get(row, "thoughts"), get(row, "cut"), classes),
      el("dl", { class: "small-facts" }, facts),
    );
    if (get(row, "tokens") !== null) {
      const button = el(
        "button",
        {
          type: "button",
          "aria-expanded": "false",
          onclick: () => {
            const opened = card.querySelector(".token-view");
            if (opened) opened.remove();
            else card.append(tokenView(tokens[get(row, "tokens")]));
            card.classList.toggle("wide", !opened);
            button.setAttribute("aria-expanded", String(!opened));
          },
        },
        "Tokens",
      );
      card.append(button);
    }
    return card;
  }

  function group(own) {
    const first = own[0],
      { right, wrong } = verdicts.get(keyOf(first));
    const at = get(first, "iteration"),
      phase = get(first, "phase"),
      set = text(first, "set");
    const title = [
      data.runs.length > 1 ? data.runs[get(first, "run")].name : "",
      at === null ? "" : set ? `after ${at} iterations` : `iteration ${at}`,
      phase === null ? "" : `phase ${phase}`,
      set ? `set ${set}` : "",
      `${right} of ${right + wrong} right`,
      own.length < right + wrong ? `${own.length} shown` : "",
    ]
      .filter(Boolean)
      .join(" · ");
    const through =
      state.question === null
        ? el(
            "button",
            {
              type: "button",
              onclick: () => {
                Object.assign(state, { from: "", to: "" });
                reflectState();
                change("question", questionOf(first));
              },
            },
            "This question through the iterations",
          )
        : null;
    const onCurves =
      point && at !== null ? el("button", { type: "button", onclick: () => point(at) }, "On the curves") : null;
    return el(
      "article",
      { class: "group card", "aria-label": title },
      el("header", {}, el("h3", {}, title), el("div", { class: "buttons" }, onCurves, through)),
      el("div", { class: "prompt" }, long(text(first, "prompt"), [], 0, [])),
      el("div", { class: "responses" }, own.map(response)),
    );
  }

  const selects = {};
  function choose(name, label, options) {
    if (options.length < 2 && name !== "reward") return null;
    const made = select(label, [["", "all"], ...options], (event) => change(name, event.target.value));
    selects[name] = made.input;
    return made.node;
  }
  function field(name, label, type) {
    const input = el("input", {
      type,
      oninput: (event) => change(name, event.target.value),
      min: type === "number" ? "0" : null,
    });
    selects[name] = input;
    return el("label", { class: type }, label, " ", input);
  }
  function reflectState() {
    for (const [name, input] of Object.entries(selects)) input.value = state[name];
  }
  const clear = el(
    "button",
    {
      type: "button",
      onclick: () => {
        for (const name of Object.keys(state)) state[name] = name === "question" ? null : "";
        reflectState();
        change("question", null);
      },
    },
    "Clear filters",
  );
  const named = (name) => distinct(name).map((i) => [String(i), texts[i] || (name === "set" ? "training" : "none")]);
  const numbered = (name) =>
    distinct(name)
      .filter((value) => value !== null)
      .sort((a, b) => a - b)
      .map((value) => [String(value), String(value)]);
  const controls = el(
    "form",
    { class: "controls", onsubmit: (event) => event.preventDefault(), "aria-label": "Filters" },
    choose(
      "run",
      "Run",
      data.runs.map((run, i) => [String(i), run.name]),
    ),
    choose("set", "Set", named("set")),
    field("from", "Iterations", "number"),
    field("to", "to", "number"),
    choose("phase", "Phase", numbered("phase")),
    choose("reward", "Reward", [
      ["right", "right"],
      ["wrong", "wrong"],
      ["mixed", "mixed groups"],
      ["all_wrong", "groups all wrong"],
    ]),
    choose("finish", "End", named("finish")),
    choose("source", "Source", named("source")),
    classes.length
      ? choose(
          "thoughts",
          "Thoughts",
          classes.flatMap((name, i) => [
            [`with:${i}`, `with ${name}`],
            [`without:${i}`, `without ${name}`],
          ]),
        )
      : null,
    field("words", "Text", "search"),
    clear,
  );
  const legend = classes.length
    ? el(
        "p",
        { class: "quiet" },
        "Thoughts: ",
        classes.flatMap((name, i) => [el("mark", { class: markOf(i) }, name), " "]),
      )
    : "";
  update();
  return {
    response,
    node: section("samples", "Samples", controls, count, legend, list, el("p", {}, more)),
    // Show the samples of an iteration: those of training, or those of a validation set.
    show(run, iteration) {
      Object.assign(state, {
        run: selects.run ? String(run) : "",
        from: String(iteration),
        to: String(iteration),
        set: "",
        phase: "",
        question: null,
      });
      reflectState();
      change("question", null);
      document.getElementById("samples").scrollIntoView();
    },
  };
}
