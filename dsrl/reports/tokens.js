// Tokens of one response, coloured by a number: what the question adds to each, its log-probabilities and entropies, how
// the objective pulled on it, and what the update changed.

const SPACES = { conditional: "log P(y|x)", marginal: "log P(y)" };

// What may be shown: its name in `packed`, a label, and whether it has two directions.
function tokenChoices(packed) {
  const inSpace = (name) => {
    const space = name.slice(name.indexOf("_") + 1);
    return SPACES[space] || `log P in space ${space}`;
  };
  const kinds = {
    logprobs: (name) => inSpace(name),
    entropies: (name) => (name.endsWith("_marginal") ? "entropy without the question" : "entropy after the question"),
    changes: (name) => `change of ${inSpace(name)}: what the update did`,
    pulls: (name) => `pull on ${inSpace(name)}: what the objective asked for`,
  };
  const found = packed.difference
    ? [["difference", "log P(y|x) − log P(y): what the question adds", true]]
    : [];
  for (const [kind, label] of Object.entries(kinds))
    for (const name of Object.keys(packed))
      if (name.startsWith(kind + "_")) found.push([name, label(name), kind === "changes" || kind === "pulls"]);
  return found;
}

function tokenNumbers(packed) {
  const [one, other] = [packed.logprobs_conditional, packed.logprobs_marginal];
  const difference =
    one && other ? one.map((value, i) => (value === null || other[i] === null ? null : value - other[i])) : undefined;
  return { ...packed, difference };
}

// The colour of a number: -4 to 4 for one with two directions, else 0 to 4, by the share of the largest usual one.
function tokenLevel(value, scale, signed) {
  if (value === null || value === undefined) return "t0";
  const level = Math.min(4, Math.round((4 * Math.abs(value)) / scale));
  return signed ? (value < 0 && level ? "tn" + level : "t" + level) : "ts" + level;
}

function tokenView(packed) {
  const numbers = tokenNumbers(packed);
  const views = tokenChoices(numbers);
  const text = el("div", {
    class: "tokens",
    tabindex: "0",
    role: "group",
    "aria-label": "Tokens; arrow keys read them one by one",
    dir: "auto",
  });
  const readout = el("p", { class: "readout", "aria-live": "polite" }, "Point at a token, or use the arrow keys.");
  const spans = packed.texts.map((token, i) => el("span", { "data-token": i }, token.replace(/\n/g, "⏎\n")));
  text.append(...spans);
  let current = -1;

  const clippedIn = (name) => new Set((name.startsWith("pulls_") && packed[name.replace("pulls_", "clipped_")]) || []);

  function paint(name) {
    const signed = views.find(([own]) => own === name)[2];
    const clipped = clippedIn(name);
    const known = numbers[name]
      .filter((value) => value !== null)
      .map(Math.abs)
      .sort((a, b) => a - b);
    const small = /^(changes|pulls)_/.test(name) ? 1e-9 : 0.5;
    const scale = Math.max(small, known[Math.floor(known.length * 0.95)] || 0);
    spans.forEach((span, i) => {
      span.className = "token " + tokenLevel(numbers[name][i], scale, signed) + (clipped.has(i) ? " clipped" : "");
    });
    key.replaceChildren(
      ...(signed
        ? ["tn4", "tn2", "t0", "t2", "t4"].map((level, i) =>
            el(
              "span",
              { class: "token " + level },
              ["≤ −" + format(scale, 2), "", "0", "", "≥ " + format(scale, 2)][i] || "·",
            ),
          )
        : ["ts0", "ts2", "ts4"].map((level, i) =>
            el(
              "span",
              { class: "token " + level },
              ["0", "·", (name.startsWith("log") ? "≤ −" : "≥ ") + format(scale, 2)][i],
            ),
          )),
      ...(clipped.size ? [el("span", { class: "token clipped" }, "clipped")] : []),
    );
  }

  function read(i) {
    if (current >= 0) spans[current].removeAttribute("aria-current");
    current = i;
    spans[i].setAttribute("aria-current", "true");
    const parts = views.map(
      ([name, label]) =>
        `${label.split(":")[0]} ${format(numbers[name][i])}${clippedIn(name).has(i) ? " (clipped)" : ""}`,
    );
    readout.replaceChildren(
      el("code", {}, JSON.stringify(packed.texts[i])),
      ` ${i + 1} of ${packed.of}: ${parts.join(" · ")}`,
    );
  }

  text.addEventListener("pointerover", (event) => {
    if (event.target.dataset.token) read(Number(event.target.dataset.token));
  });
  text.addEventListener("click", (event) => {
    if (event.target.dataset.token) read(Number(event.target.dataset.token));
  });
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    read(Math.min(spans.length - 1, Math.max(0, current + step)));
  });
  const key = el("span", { class: "key", "aria-hidden": "true" });
  const choice = select("Colour", views, (event) => paint(event.target.value));
  const sums = views
    .filter(([name]) => !/^(entropies|pulls)/.test(name))
    .map(
      ([name, label]) =>
        `${label.split(":")[0]}: ${format(numbers[name].reduce((sum, value) => sum + (value || 0), 0))} in all`,
    );
  paint(views[0][0]);
  return el(
    "div",
    { class: "token-view" },
    el("div", { class: "controls" }, choice.node, key),
    text,
    readout,
    el(
      "p",
      { class: "quiet" },
      sums.join(" · ") +
        (packed.of > packed.texts.length ? ` (the first ${packed.texts.length} of ${packed.of} tokens)` : ""),
    ),
  );
}
