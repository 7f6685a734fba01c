"""A Chromium without a window, to look at pages as a reader does; for benchmarks and tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


def installed() -> tuple[str, str] | None:
    """Return the paths of a Chromium and of its driver; None where one is not on the PATH."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def start(profile: Path) -> Any:
    """Start a Chromium with an empty ``profile`` folder and return its selenium driver, which logs what it asks for.

    Raises:
        ModuleNotFoundError: selenium is not installed.
        OSError: There is no Chromium, or no driver of it.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = installed()
    if found is None:
        raise OSError(
            "expected chromium and chromedriver on the PATH, and they are not there; install them, for instance by "
            "apt-get install chromium chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(found[1]))
