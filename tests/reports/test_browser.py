"""The page in Chromium: it draws, filters, shows tokens, obeys nothing that a run holds, and asks nobody."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_folders import evaluation_folder, iteration, run_folder, sample, warning, with_tokens, write_lines

from dsrl.reports.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


expect = sync_api.expect  # waits where a browser tells a page later, as when a <details> opens


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]  # which Chromium does not have for root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Any]:
    """Open a report of folders; at the end there must have been no error on the console, and no request."""
    problems: list[str] = []
    contexts = []

    def open_report(*folders: Path, width: int = 1200, scheme: str = "light") -> Any:
        out = tmp_path / "report.html"
        write_report(folders, out)
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on(
            "console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url != out.as_uri() else None)
        page.goto(out.as_uri())
        return page

    yield open_report
    for context in contexts:
        problems += ["an object as text"] if "[object" in context.pages[0].text_content("main") else []
        context.close()
    assert problems == []


def filters(page: Any) -> Any:
    return page.get_by_role("form", name="Filters")


def test_a_place_on_a_curve_leads_to_the_samples_of_that_iteration(opened, tmp_path):
    page = opened(run_folder(tmp_path / "run"))
    assert page.title() == "run · dsrl report"
    expect(page.locator("#run")).to_contain_text("python train.py objective=nsr_prerl")
    plot, titles = page.locator("#curves svg").first, page.locator("#samples .group h3")
    plot.focus()
    for _ in range(3):
        plot.press("ArrowLeft")  # from the right: the validation after 6 iterations, then 5, then 4
    expect(page.locator("#curves .readout").first).to_contain_text("iteration 4: reward/mean 0.5")
    plot.press("Enter")
    expect(titles).to_have_text(["iteration 4 · phase 2 · 1 of 2 right"])
    plot.click(position={"x": 53, "y": 100})
    expect(titles).to_have_text(["iteration 0 · phase 1 · 1 of 2 right"])


def test_samples_lead_to_their_iteration_on_the_curves(opened, tmp_path):
    page = opened(run_folder(tmp_path / "run"))
    group = page.locator("#samples .group").nth(2)
    assert group.locator("h3").text_content().startswith("iteration 2 ")
    group.get_by_role("button", name="On the curves").click()
    expect(page.locator("#curves .readout").first).to_contain_text("iteration 2: reward/mean 0.3")


def told_of(folder: Path) -> Path:
    """The run with a handoff that a monitor asked for, and with its warning."""
    lines = [iteration(at, 0.1 * at) for at in range(6)]
    lines[3]["handoff_reason"] = "monitor reward warned in iteration 2"
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "warnings.jsonl", [warning(2, "reward")])
    return folder


def test_charts_show_handoffs_with_their_reason_and_warnings_with_what_to_do(opened, tmp_path):
    page = opened(told_of(run_folder(tmp_path / "run")))
    chart = page.locator("#curves .chart").first
    begun, told = "handoff to grpo, since monitor reward warned in iteration 2", "warning, reward: reward: figure"
    expect(chart.locator(".handoff title")).to_have_text(begun)
    expect(chart.locator(".alarm title")).to_have_text(f"{told} Why ␛[31m it matters. What to do.")
    chart.locator("svg").focus()
    for _ in range(3):
        chart.locator("svg").press("ArrowRight")
    expect(chart.locator(".readout")).to_contain_text(told)
    chart.locator("svg").press("ArrowRight")
    expect(chart.locator(".readout")).to_contain_text(begun)
    expect(page.locator("#run .notes")).to_contain_text("Warning, reward, iteration 2: reward: figure")


def test_warnings_of_several_runs_are_marked_with_the_runs_name(opened, tmp_path):
    page = opened(told_of(run_folder(tmp_path / "a")), run_folder(tmp_path / "b", seed=1))
    marks = page.locator("#curves .chart").first.locator(".alarm title").all_text_contents()
    assert [text.split(": ")[0] for text in marks] == ["warning, reward of a"]


def test_filters_leave_what_fits_and_are_cleared(opened, tmp_path):
    page = opened(run_folder(tmp_path / "run"))
    status = page.locator("#samples [role=status]")
    expect(status).to_have_text("12 of 12 responses, 6 groups")
    filters(page).get_by_label("Reward").select_option("wrong")
    expect(status).to_have_text("6 of 12 responses, 6 groups")
    filters(page).get_by_label("Phase").select_option("2")
    expect(status).to_have_text("3 of 12 responses, 3 groups")
    filters(page).get_by_label("Text").fill("no such text")
    expect(status).to_have_text("0 of 12 responses, 0 groups")
    page.get_by_role("button", name="Clear filters").click()
    expect(status).to_have_text("12 of 12 responses, 6 groups")
    page.get_by_role("button", name="This question through the iterations").first.click()
    titles = page.locator("#samples .group h3").all_text_contents()
    assert [title.split(" · ")[0] for title in titles] == ["iteration 0", "iteration 2", "iteration 4"]


def test_tokens_show_what_the_question_adds(opened, tmp_path):
    page = opened(run_folder(tmp_path / "run"))
    card = page.locator("#samples .response").first
    card.get_by_role("button", name="Tokens").click()
    expect(card.locator(".tokens .token")).to_have_text(list("1+2=?3"))
    card.locator(".tokens").focus()
    card.locator(".tokens").press("ArrowRight")
    expect(card.locator(".token-view .readout")).to_contain_text("log P(y|x) − log P(y) 1.5")
    card.get_by_label("Colour").select_option("logprobs_marginal")
    assert "ts4" in card.locator(".tokens .token").first.get_attribute("class")


def test_tokens_show_which_the_objective_moved_and_which_it_clipped(opened, tmp_path):
    page = opened(run_folder(tmp_path / "run"))
    card = page.locator("#samples .response").first
    card.get_by_role("button", name="Tokens").click()
    card.get_by_label("Colour").select_option(label="pull on log P(y): what the objective asked for")
    classes = [token.get_attribute("class") for token in card.locator(".tokens .token").all()]
    assert classes == ["token tn4", "token t0 clipped", *["token t0"] * 4]
    card.locator(".tokens").press("ArrowRight")
    card.locator(".tokens").press("ArrowRight")
    read = card.locator(".token-view .readout").text_content()
    assert "change of log P(y|x) 0.01 · change of log P(y) -0.02 · pull on log P(y) 0 (clipped)" in read
    card.get_by_label("Colour").select_option("changes_conditional")
    assert "t4" in card.locator(".tokens .token").first.get_attribute("class")


def test_several_runs_are_compared(opened, tmp_path):
    folders = [run_folder(tmp_path / f"a{seed}", seed=seed) for seed in range(3)]
    folders.append(run_folder(tmp_path / "b", objective={"name": "grpo"}, phase2=None))
    page = opened(*folders)
    heads = page.locator("#comparison table").first.locator("thead th").all_text_contents()
    assert heads == ["nsr_prerl → grpo (3)", "grpo (1)"]
    assert page.locator("#curves .chart").first.locator(".legend li").count() == 2
    filters(page).get_by_label("Run").select_option("3")
    expect(page.locator("#samples [role=status]")).to_have_text("12 of 48 responses, 6 groups")


def test_evaluations_show_the_questions_that_changed_sides_with_responses_of_both(opened, tmp_path):
    before, after = {"a": [0.0, 0.0], "b": [1.0, 1.0]}, {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    page = opened(evaluation_folder(tmp_path / "before", before), evaluation_folder(tmp_path / "after", after))
    section = page.locator("#evaluations")
    expect(section.locator("h3")).to_have_text(["after less before"])
    first = section.locator("tbody tr").first.locator("th, td").all_text_contents()
    assert first[:4] == ["math: avg", "0.5", "1", "+0.5"]
    gained = section.locator("details").first
    gained.locator("summary").click()
    expect(gained.locator("h4")).to_have_text(["before: 0 of 2 right · after: 2 of 2 right"])
    sides = [side.locator(".text").all_text_contents() for side in gained.locator(".sides > div").all()]
    assert sides[0] == ["before answers a wrongly, 0", "before answers a wrongly, 1"]
    assert sides[1] == ["after answers a rightly, 0", "after answers a rightly, 1"]


def test_what_a_run_holds_is_shown_as_text(opened, tmp_path):
    folder = run_folder(tmp_path / "run")
    script = "</script><script>document.title='executed'</script><img src=x onerror=\"document.title='executed'\">"
    texts = [script, "\x00\x1b[31m", "\u202eabc\u202c", "שלום", "x" * 1_000_000]
    lines = [sample(at, text, prompt=text, extracted_answer=text[:50]) for at, text in enumerate(texts)]
    write_lines(
        folder / "samples.jsonl", [with_tokens(line) if len(line["response"]) < 500 else line for line in lines]
    )
    page = opened(folder)
    assert page.title() == "run · dsrl report"
    shown = page.locator("#samples .response .text").all_text_contents()
    assert shown[:4] == [script, "␀␛[31m", "⟨202E⟩abc⟨202C⟩", "שלום"]
    assert shown[4].startswith("x" * 1500 + "… show all 100,000 characters")
    page.locator("#samples .response .text button").click()
    assert (
        "the page holds the first 100,000 of 1,000,000 characters"
        in page.locator("#samples .response .text").last.text_content()
    )


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(opened, tmp_path, width):
    page = opened(run_folder(tmp_path / "run"), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(opened, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`").Axe()
    folders = [told_of(run_folder(tmp_path / "a")), run_folder(tmp_path / "b", objective={"name": "grpo"})]
    page = opened(*folders, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.locator("#samples").get_by_role("button", name="Tokens").first.click()
    found = axe.run(page)
    assert found.response["violations"] == [], found.generate_report()


def test_texts_have_contrast_in_light_and_dark(opened, tmp_path):
    folder = run_folder(tmp_path / "run")
    for scheme in ("light", "dark"):
        page = opened(folder, scheme=scheme)
        ratios = page.evaluate(CONTRAST)
        assert min(ratios.values()) >= 4.5, (scheme, ratios)


CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (name) => {
    canvas.fillStyle = style.getPropertyValue(name).trim();
    canvas.fillRect(0, 0, 1, 1);
    const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const pairs = [["--ink", "--paper"], ["--ink", "--card"], ["--quiet", "--paper"], ["--quiet", "--card"],
    ["--accent", "--card"], ["--good", "--good-paper"], ["--bad", "--bad-paper"], ["--ink", "--mark"]];
  return Object.fromEntries(pairs.map(([one, other]) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return [one + " on " + other, (high + 0.05) / (low + 0.05)];
  }));
}"""


def test_thoughts_are_marked_and_filtered_by_class(opened, tmp_path):
    folder = run_folder(tmp_path / "run")
    texts = ("a wait b", "plain", "\U0001f600 wait, else")
    places = (
        {"reflection": [2, 6], "rest": []},
        {"reflection": [], "rest": [0, 5]},
        {"reflection": [2, 6], "rest": [8, 12]},
    )
    lines = [
        sample(0, text, thoughts=own, question=0, response_number=number)
        for number, (text, own) in enumerate(zip(texts, places, strict=True))
    ]
    write_lines(folder / "samples.jsonl", lines)
    page = opened(folder)
    marks = page.locator("article.response mark")
    expect(marks).to_have_text(["wait", "plain", "wait", "else"])
    assert [mark.get_attribute("title") for mark in marks.all()] == ["reflection", "rest", "reflection", "rest"]
    chosen = filters(page).get_by_label("Thoughts")
    chosen.select_option(label="with rest")
    expect(marks).to_have_text(["plain", "wait", "else"])
    chosen.select_option(label="without reflection")
    expect(marks).to_have_text(["plain"])
