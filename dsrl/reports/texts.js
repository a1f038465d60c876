// A text of a run: its reconsiderations marked, a long one cut with a button.

const CHARACTERS_AT_ONCE = 1500;

function long(whole, marks, cut) {
  const holder = el("div", { class: "text", dir: "auto" });
  const put = (end) => {
    const parts = [];
    let begin = 0;
    for (let i = 0; i < marks.length && marks[i + 1] <= end; i += 2) {
      parts.push(whole.slice(begin, marks[i]), el("mark", {}, whole.slice(marks[i], marks[i + 1])));
      begin = marks[i + 1];
    }
    parts.push(whole.slice(begin, end));
    holder.replaceChildren(
      ...parts.map((part) => (part instanceof Node ? part : document.createTextNode(visible(part)))),
    );
    if (end < whole.length)
      holder.append(
        el(
          "button",
          { type: "button", class: "more", onclick: () => put(whole.length) },
          `… show all ${whole.length.toLocaleString("en")} characters`,
        ),
      );
    else if (cut)
      holder.append(
        el(
          "em",
          {},
          ` … the page holds the first ${whole.length.toLocaleString("en")} of ${cut.toLocaleString("en")} characters; samples.jsonl has all`,
        ),
      );
  };
  put(whole.length > CHARACTERS_AT_ONCE * 1.2 ? CHARACTERS_AT_ONCE : whole.length);
  return holder;
}
