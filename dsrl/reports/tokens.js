// Tokens of one response, coloured by a number: what the question adds to each, its log-probabilities, its entropies.

const TOKEN_VIEWS = [
  ["difference", "log P(y|x) − log P(y): what the question adds"],
  ["logprobs_conditional", "log P(y|x)"],
  ["logprobs_marginal", "log P(y)"],
  ["entropies_conditional", "entropy after the question"],
  ["entropies_marginal", "entropy without it"],
];

function tokenNumbers(packed) {
  const [one, other] = [packed.logprobs_conditional, packed.logprobs_marginal];
  const difference =
    one && other ? one.map((value, i) => (value === null || other[i] === null ? null : value - other[i])) : undefined;
  return { ...packed, difference };
}

// The colour of a number: -4 to 4 for a difference, 0 to 4 for sizes, by the share of the largest usual one.
function tokenLevel(value, scale, signed) {
  if (value === null || value === undefined) return "t0";
  const level = Math.min(4, Math.round((4 * Math.abs(value)) / scale));
  return signed ? (value < 0 && level ? "tn" + level : "t" + level) : "ts" + level;
}

function tokenView(packed) {
  const numbers = tokenNumbers(packed);
  const views = TOKEN_VIEWS.filter(([name]) => numbers[name]);
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

  function paint(name) {
    const known = numbers[name]
      .filter((value) => value !== null)
      .map(Math.abs)
      .sort((a, b) => a - b);
    const scale = Math.max(0.5, known[Math.floor(known.length * 0.95)] || 0);
    spans.forEach((span, i) => {
      span.className = "token " + tokenLevel(numbers[name][i], scale, name === "difference");
    });
    key.replaceChildren(
      ...(name === "difference"
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
    );
  }

  function read(i) {
    if (current >= 0) spans[current].removeAttribute("aria-current");
    current = i;
    spans[i].setAttribute("aria-current", "true");
    const parts = views.map(([name, label]) => `${label.split(":")[0]} ${format(numbers[name][i])}`);
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
    .filter(([name]) => !name.startsWith("entropies"))
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
