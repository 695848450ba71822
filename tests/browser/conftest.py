"""A headless Chromium that belongs to the tests: no profile of anyone's, nothing fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.page_checks import TIMEOUT_MS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# what a browser does by itself would show up as requests of the page's
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps",
)  # fmt: skip


# not for the whole session: while it runs, its event loop keeps asyncio.run from others
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium of this host's."""
    from playwright.sync_api import sync_playwright

    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("no Chromium on PATH; on Debian: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(_FLAGS), timeout=TIMEOUT_MS)
        yield running
        running.close()
