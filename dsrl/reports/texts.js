// A text of a run: its thoughts marked by class, a long one cut with a button.

const CHARACTERS_AT_ONCE = 1500;

const MARKS = 4;

// The look of a class of thoughts: its place among the classes says which.
function markOf(number) {
  return "thought-" + (number % MARKS);
}

// `marks` are begin, end and class of each thought in turn; `classes` are the names of the classes.
function long(whole, marks, cut, classes) {
  const holder = el("div", { class: "text", dir: "auto" });
  const put = (end) => {
    const parts = [];
    let begin = 0;
    for (let i = 0; i < marks.length && marks[i] < end; i += 3) {
      const last = Math.min(marks[i + 1], end);
      const look = { class: markOf(marks[i + 2]), title: visible(classes[marks[i + 2]]) };
      parts.push(whole.slice(begin, marks[i]), el("mark", look, whole.slice(marks[i], last)));
      begin = last;
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
