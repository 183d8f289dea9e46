"""What `scripts/browser` measures and draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.browser.chromium import MISSING, find_browser
from scripts.browser.first_paint import SIZE, measure
from scripts.browser.screenshots import FOLDER, LARGEST, take
from tests.support.processes import ROOT, clean_environment

needs_browser = pytest.mark.skipif(find_browser() is None, reason=MISSING)


@needs_browser
async def test_the_first_paint_is_measured_with_all_that_is_loaded() -> None:
    [look] = await measure(1)
    assert 0 < look.paint <= look.content
    assert look.listed > 0
    assert 0 < look.transferred < look.uncompressed <= SIZE


@needs_browser
async def test_the_screenshots_of_the_readme_are_small_and_two_different_ones(tmp_path: Path) -> None:
    taken = await take(tmp_path, pace=0)
    light, dark = [path.read_bytes() for path in taken]
    assert light != dark
    for picture in (light, dark):
        assert picture.startswith(b"\x89PNG")
        assert len(picture) <= LARGEST
    assert all((FOLDER / path.name).exists() for path in taken)


def test_without_a_browser_a_line_says_why_there_are_no_screenshots(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.browser.screenshots"],
        cwd=ROOT,
        env=clean_environment() | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"no screenshots: {MISSING}\n")
