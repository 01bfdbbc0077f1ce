"""The page, as text and in a headless browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.explain.steps import planned_convnet, small_plan
from tgrad.cli.explain import Request, explain_script
from tgrad.runtime.plan import Plan

pytest.importorskip("torch")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")

VOID = {"meta", "link", "br", "rect", "circle", "path", "line", "polyline"}


class Balance(HTMLParser):
    """Every tag is closed; what is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID or tag in ("rect", "circle", "path", "line", "polyline"):
            self.open.append(tag)
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href") and (v or "")[:1] != "#"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [v or "" for k, v in attrs if k in ("src", "href") and (v or "")[:1] != "#"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned_convnet("sm_90")


@pytest.fixture(scope="module")
def page(plan: Plan) -> str:
    return plan.to_html(memory_limit=8 << 30)


def test_the_page_is_balanced_and_loads_nothing(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.loaded == ["data:,"]
    assert "url(" not in page and "@import" not in page


def test_the_page_shows_every_kernel(page: str, plan: Plan) -> None:
    assert page.count("<article ") == page.count('class="node"') == plan.launches
    assert page.count("<summary>generated source</summary>") == plan.launches
    for title in ("Kernels", "Graph", "Memory", "Roofline", "Sources"):
        assert f"<h2>{title}</h2>" in page
    assert "fits in 8 GiB" in page and "prefers-color-scheme:dark" in page


def test_edges_go_from_writers_to_later_readers(page: str) -> None:
    edges = re.findall(r'class="edge" data-from="(\d+)" data-to="(\d+)"', page)
    assert len(edges) > 30 and all(int(a) < int(b) for a, b in edges)


def test_text_of_programs_is_escaped(tmp_path: Path) -> None:
    script, path = tmp_path / "program.py", tmp_path / "page.html"
    script.write_text(
        "import tgrad\n"
        "x = tgrad.ones(4, 4).realize()\n"
        "(x @ x).realize()  # </script><script>alert(1)</script> & <b>\n"
    )
    assert explain_script(script, request=Request(html_path=path)) == 0
    text = path.read_text()
    assert "alert(1)" in text and "<script>alert" not in text and "& <b>" not in text


def test_a_short_table_for_notebooks(plan: Plan) -> None:
    table = plan._repr_html_()
    parser = Balance()
    parser.feed(table)
    assert parser.open == [] and parser.loaded == []
    assert table.count("<tr") == plan.launches + 2
    assert "peak memory" in table and "<style" not in table


def test_plans_of_any_size_have_a_page() -> None:
    assert "Roofline" in small_plan().to_html()


def run_browser(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
         f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@needs_browser
def test_in_a_browser(page: str, plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page)
    run = run_browser(path, tmp_path / "profile", "--dump-dom")
    assert run.returncode == 0, run.stderr
    assert 'data-ready="true"' in run.stdout
    assert run.stdout.count("<article ") == plan.launches
    assert "CONSOLE" not in run.stderr


@needs_browser
def test_console_errors_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<!DOCTYPE html><script>nothing.here()</script>")
    assert "CONSOLE" in run_browser(path, tmp_path / "profile", "--dump-dom").stderr


@needs_browser
def test_tables_sort_and_edges_light_up(page: str, plan: Plan, tmp_path: Path) -> None:
    click = """<script>
    const flops = [...document.querySelectorAll("table.kernels th")]
      .find((th) => th.textContent === "FLOPs");
    flops.querySelector("button").click();
    const cells = [...document.querySelectorAll("table.kernels tbody tr")]
      .map((row) => row.cells[3].dataset.value);
    document.querySelector(".node").dispatchEvent(new Event("mouseenter"));
    document.body.dataset.order = cells.join(" ");
    document.body.dataset.lit = document.querySelectorAll(".edge.lit").length;
    </script></body>"""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", click))
    run = run_browser(path, tmp_path / "profile", "--dump-dom")
    found = re.search(r'data-order="([\d ]+)"', run.stdout)
    assert found is not None
    order = [int(x) for x in found[1].split()]
    assert order == sorted((k.flops for k in plan.kernels), reverse=True)
    lit = re.search(r'data-lit="(\d+)"', run.stdout)
    assert lit is not None and int(lit[1]) > 0
    assert "CONSOLE" not in run.stderr


@needs_browser
def test_screenshot_in_light_and_dark(page: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "page.html"
    path.write_text(page)
    corners = []
    for number, flags in enumerate(([], ["--blink-settings=preferredColorScheme=0"])):
        shot = tmp_path / f"{number}.png"
        size = "--window-size=1400,1800"
        run_browser(path, tmp_path / f"p{number}", size, f"--screenshot={shot}", *flags)
        picture = image.open(shot).convert("RGB")
        assert len(picture.getcolors(1 << 24)) > 50
        corners.append(sum(picture.getpixel((3, 3))))
    assert corners[0] > 700 and corners[1] < 120
