"""Report pages in a headless Chromium: no error, no request, keys, the machine rebuilt in the page, accessibility."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_runs import HOSTILE, case1, hostile_document, hostile_log, stress_document, write

from ptactors.campaign.names import known_names
from ptactors.campaign.witness import write_outcome
from ptactors.report.page_campaign import campaign_page, read_campaign
from ptactors.report.page_run import read_run, run_page
from ptactors.scenario.load import load
from ptactors.scenario.matrix import cells
from ptactors.world import play

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
ROOT = Path(__file__).resolve().parent.parent
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
AXE = [
    path / "axe-core/axe.min.js" for path in (ROOT / "node_modules", Path("/tmp/node_modules")) if (path / "axe-core").is_dir()
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page, as a file."""
    folder = tmp_path_factory.mktemp("pages")
    log = case1(folder)
    (folder / "hostile.json").write_text(json.dumps(hostile_document()), encoding="utf-8")
    logs = folder / "logs"
    logs.mkdir()
    (logs / "case1.jsonl").write_bytes(log.read_bytes())
    stress, attacked = folder / "stress", folder / "attacked"
    for place, document in ((stress, stress_document(log=str(log))), (attacked, stress_document(" ".join(HOSTILE), HOSTILE[0]))):
        place.mkdir()
        (place / "campaign.json").write_text(json.dumps(document), encoding="utf-8")
    made = {
        "case1": run_page(read_run(log)),
        "hostile": run_page(read_run(hostile_log(folder))),
        "empty": run_page(read_run(write(folder / "empty.jsonl", []))),
        "campaign": campaign_page(read_campaign(logs), folder / "campaign.html"),
        "hostile-campaign": campaign_page(read_campaign(folder / "hostile.json"), folder / "x.html"),
        "stress": campaign_page(read_campaign(stress), folder / "stress.html"),
        "hostile-stress": campaign_page(read_campaign(attacked), folder / "y.html"),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


class Tab:
    """A page that is open, with all that it complained about or asked for."""

    def __init__(self, browser: Any, file: Path, fragment: str = "", **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1400, "height": 900}, **options)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{file}{fragment}")

    def press(self, *keys: str) -> str:
        for key in keys:
            self.page.keyboard.press(key)
        return self.said()

    def said(self) -> str:
        return self.page.inner_text("#said")


@pytest.fixture
def open_tab(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    tabs: list[Tab] = []

    def open_one(name: str, fragment: str = "", **options: Any) -> Tab:
        tabs.append(Tab(browser, pages[name], fragment, **options))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.page.close()


CAMPAIGNS = ("campaign", "hostile-campaign", "stress", "hostile-stress")


@pytest.mark.parametrize("name", ["case1", "hostile", "empty", *CAMPAIGNS])
def test_a_page_opens_without_an_error_and_asks_for_nothing(name: str, open_tab: Any) -> None:
    tab = open_tab(name)
    if name not in (*CAMPAIGNS, "empty"):
        for key in "hweewbek":
            tab.press(key)
        for summary in tab.page.query_selector_all("summary"):
            summary.click()
        records = tab.page.evaluate("JSON.parse(document.getElementById('data').textContent).events.length")
        assert tab.page.locator("#rows tbody tr").count() == records
    assert tab.trouble == []
    assert len(tab.requests) == 1, "only the file itself"
    assert tab.page.evaluate("document.querySelectorAll('img, iframe, object, link').length") == 0
    assert tab.page.evaluate("document.querySelectorAll('script').length") == 2


def test_an_injected_script_or_request_is_stopped_by_the_policy(open_tab: Any) -> None:
    tab = open_tab("case1")
    tab.page.evaluate("""() => {
        const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s);
        const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);
        return fetch('http://127.0.0.1:9/y').catch(() => 0);
    }""")
    assert tab.page.evaluate("window.owned") is None
    assert sum("Content Security Policy" in line for line in tab.trouble) >= 3


def test_the_cursor_starts_at_the_hazard_and_the_address_follows_it(open_tab: Any, pages: dict[str, Path]) -> None:
    run = read_run(pages["case1"].with_name("case1.jsonl"))
    step = run.findings[0].step
    tab = open_tab("case1")
    assert tab.said().startswith(f"step {step}, cpu1: tlb fill A 2M")
    assert "2 hazards at this step: mixed_page_size_tlb, two_translations_one_va" in tab.said()
    before = tab.press("ArrowLeft")
    assert before != tab.press("ArrowRight")
    assert tab.page.evaluate("location.hash") == f"#{step}"
    first = next(s for s, _, e in run.records if s > 0)
    assert open_tab("case1", f"#{first}").said().startswith(f"step {first}, ")
    assert open_tab("case1", f"#step={first}").said().startswith(f"step {first}, ")


def test_why_walks_to_the_other_cpu_and_back(open_tab: Any) -> None:
    tab = open_tab("case1")
    start = tab.said()
    assert "set_huge_pmd" in tab.press("w")
    assert "page fault" in tab.press("w")
    assert "cpu0: pmd_clear A" in tab.press("w")
    assert tab.page.locator("#lanes path.why").count() == 3
    assert tab.press("b", "b", "b") == start


def test_everything_is_there_on_demand(open_tab: Any) -> None:
    tab = open_tab("case1")
    few = tab.page.locator("#lanes rect.row").count()
    tab.press("e")
    assert tab.page.get_attribute("#all", "aria-pressed") == "true"
    assert tab.page.locator("#lanes rect.row").count() > 2 * few
    tab.press("e")
    assert tab.page.locator("#lanes rect.row").count() == few


def test_the_machine_at_the_hazard(open_tab: Any) -> None:
    tab = open_tab("case1")
    panel = tab.page.inner_text("#panel")
    assert "A 2M → " in panel
    assert panel.count("conflicting") == 2
    assert "[1] A → 2M page" in panel
    assert "mmap:P held by cpu0 (read)" in panel
    assert "the flush is still owed" in panel
    tab.press("w", "w", "w")
    assert "[1] A is empty now" in tab.page.inner_text("#panel")
    assert tab.page.locator("#panel li.stale").count() >= 1


def test_the_machine_in_the_page_is_that_of_the_oracles(open_tab: Any, pages: dict[str, Path]) -> None:
    """What the script rebuilds is what the mirror of the oracles knows: the translations held at the end of each record."""
    from ptactors.oracle.mirror import Mirror

    run = read_run(pages["case1"].with_name("case1.jsonl"))
    mirror = Mirror()
    listeners = mirror.listeners()
    expected = []
    for step, actor, event in run.records:
        see = listeners.get(type(event))
        if see:
            see(step, actor, event)
        held = [
            [cpu, fill.va, fill.size, fill.pfn]
            for cpu, spaces in mirror.caches.spaces.items()
            for space in spaces.values()
            for fill in [h.fill for h in [*space.small.values(), *space.huge.values()]]
        ]
        expected.append(sorted(held))
    found = open_tab("case1").page.evaluate("""() => {
        const data = JSON.parse(document.getElementById('data').textContent), machine = new Machine();
        return data.events.map((e) => { machine.apply(e);
            return [...machine.cpus].flatMap(([cpu, c]) => [...c.tlb.values()].map((t) => [cpu, t.va, t.size, t.pfn])); });
    }""")
    assert [sorted(each) for each in found] == expected


def test_the_picture_has_what_was_promised(open_tab: Any) -> None:
    tab = open_tab("case1")
    count = lambda selector: tab.page.locator(f"#lanes {selector}").count()  # noqa: E731
    assert count("path.bracket") >= 4, "locks"
    assert count("rect.rcu") >= 2, "RCU sections and the grace period"
    assert count("path.ipi") >= 1
    assert count("rect.clash") == 2
    assert count("rect[fill='url(#hatch)']") >= 1, "stale"
    assert count("rect.irq") == 1
    assert count("rect.row.here") == 1


def test_buttons_and_links_do_what_keys_do(open_tab: Any) -> None:
    tab = open_tab("case1")
    tab.page.click("#why")
    assert "set_huge_pmd" in tab.said()
    tab.page.click("#hazard")
    assert "tlb fill A 2M" in tab.said()
    tab.page.click("details[open] .story li:nth-child(3) a.step")
    assert "madvise" in tab.said()
    assert tab.page.evaluate("document.activeElement.id") == "lanes"
    tab.page.click("#theme")
    assert tab.page.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.page.click("#copy")
    tab.page.wait_for_function("/clipboard|stands below/.test(document.getElementById('said').textContent)")


def test_the_panel_has_the_tlbs_first_and_both_reasons_at_the_hazard(open_tab: Any) -> None:
    tab = open_tab("case1")
    heads = tab.page.locator("#panel h3").all_inner_texts()
    words = [head.upper().split("  ")[0] for head in heads]
    assert words[1].startswith("TLBS"), words
    assert [word for word in words if word.startswith("WHY")] == [
        "WHY THE NEW 2M TRANSLATION IS THERE",
        "WHY THE OLD 4K TRANSLATION IS STILL THERE",
    ]
    seen = tab.page.evaluate("""() => {
        const box = document.getElementById("panel"), last = [...box.querySelectorAll("li.clash")].at(-1);
        return last.getBoundingClientRect().bottom <= box.getBoundingClientRect().bottom;
    }""")
    assert seen, "the conflicting translations are not cut off"
    tab.press("w")
    assert "WHY: WHAT LED HERE" in tab.page.inner_text("#panel").upper()


def test_what_is_switched_off_has_a_line_that_the_cursor_steps_over(open_tab: Any) -> None:
    tab = open_tab("case1")
    assert tab.page.locator("#lanes text.ghostword").all_text_contents() == [
        "cpu1, pmd lock held: arch_flush_tlb_before_set_huge_page() would flush A..A+2M here: OFF in this run"
    ]
    tab.press("w")
    assert "set_huge_pmd" in tab.said()
    before = tab.page.locator("#lanes rect.row").count()
    assert "lock(pmd:" in tab.press("ArrowLeft")
    assert "set_huge_pmd" in tab.press("ArrowRight")
    tab.page.click("#lanes rect.ghost", force=True)
    assert "set_huge_pmd" in tab.said()
    tab.press("e")
    assert tab.page.locator("#lanes text.ghostword").count() == 1
    assert tab.page.locator("#lanes rect.row").count() > before


@pytest.mark.parametrize("key", ["h", "ArrowRight", "w", "End"])
def test_keys_bring_the_picture_into_the_window(key: str, open_tab: Any) -> None:
    tab = open_tab("case1")
    inside = """() => { const r = document.querySelector("#lanes rect.here").getBoundingClientRect();
        return r.top >= 0 && r.bottom <= innerHeight; }"""
    tab.page.evaluate("scrollTo(0, 0)")
    assert not tab.page.evaluate(inside), "the page begins with words"
    if key == "End":
        tab.page.evaluate("document.getElementById('lanes').focus({ preventScroll: true })")
    tab.press(key)
    assert tab.page.evaluate(inside)


def test_an_address_opens_its_row_in_the_window(open_tab: Any, pages: dict[str, Path]) -> None:
    run = read_run(pages["case1"].with_name("case1.jsonl"))
    step = next(s for s, _, e in run.records if type(e).__name__ == "PageFault")
    tab = open_tab("case1", f"#{step}")
    assert "page fault A+0x5000" in tab.said()
    assert tab.page.evaluate("document.querySelector('#lanes rect.here').getBoundingClientRect().bottom <= innerHeight")
    assert "tlb invalidate" in open_tab("case1", f"#{step}.1").said()
    first, third = open_tab("case1", "#0.1"), open_tab("case1", "#0.3")
    assert first.said().startswith("before the run")
    assert first.said() != third.said()
    third.press("ArrowLeft", "ArrowRight")
    assert third.page.evaluate("location.hash") == "#0.3"


def test_words_are_explained_on_focus_and_open_the_glossary(open_tab: Any) -> None:
    tab = open_tab("case1")
    word = tab.page.locator("#panel a.term", has_text="rwad").first
    tip = """(node) => getComputedStyle(node, "::after").content"""
    assert word.evaluate(tip) == "none"
    word.hover()
    assert "what an entry allows" in word.evaluate(tip)
    tab.page.mouse.move(0, 0)
    tab.press("Tab")
    word.focus()
    assert "what an entry allows" in word.evaluate(tip)
    tab.press("Enter")
    assert tab.page.locator("#term-flags").is_visible()


def test_everything_can_be_reached_by_tab_alone(open_tab: Any) -> None:
    tab = open_tab("case1")
    reached = set()
    for _ in range(120):
        tab.page.keyboard.press("Tab")
        reached.add(tab.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"back", "forth", "hazard", "why", "all", "copy", "copy-mermaid", "theme", "lanes", "panel", "SUMMARY"} <= reached


@pytest.mark.skipif(not AXE, reason="axe-core is not installed (npm install axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["case1", "hostile", *CAMPAIGNS])
def test_axe_has_nothing_to_say(name: str, scheme: str, browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(color_scheme=scheme, bypass_csp=True)
    page.goto(f"file://{pages[name]}")
    for summary in page.query_selector_all("details:not([open]) > summary"):
        summary.click()
    page.evaluate(AXE[0].read_text(encoding="utf-8"))
    violations = page.evaluate("axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)]))")
    page.close()
    assert violations == []


@pytest.mark.full
def test_the_page_of_a_run_of_eight_cpus_with_a_finding_loads_in_two_seconds(browser: Any, tmp_path: Path) -> None:
    scenario = load(ROOT / "scenarios" / "stress-8cpu.toml", known_names())
    cell = cells(scenario, {"reclaim_scan": False, "map_lock_recheck": False}, "v6.14")[0]
    outcome = next(
        outcome
        for seed in range(20)
        if (outcome := play(scenario, cell, strategy="run-length", seed=seed, record=True, host="direct")).findings
        and outcome.steps > 5000
    )
    log, file = tmp_path / "run.jsonl", tmp_path / "run.html"
    write_outcome(log, outcome, scenario)
    file.write_text(run_page(read_run(log)), encoding="utf-8")
    tab = Tab(browser, file)
    loaded = tab.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    tab.page.close()
    assert tab.trouble == []
    assert 0 < loaded < 2000
