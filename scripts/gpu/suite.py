"""Run the tests that need a CUDA device, and keep the outcome of each; on the CPU, collect them."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MARK = "mark.cuda"


class Outcomes:
    """A plugin of pytest that keeps the outcome of each test."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = [item.nodeid for item in session.items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "passed" and report.when != "call":
            return
        self.outcomes[report.nodeid] = report.outcome
        if report.outcome != "passed":
            self.reasons[report.nodeid] = report.longreprtext or str(report.longrepr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--json", type=Path, help="file for the outcomes")
    options = parser.parse_args()
    kept = Outcomes()
    # Tests that skip without the extension fail here; other versions of packages may warn, and plugins of pytest add
    # to that, which is no fault of the GPU.
    os.environ |= {"CI": "true", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = ["-m", "cuda", "-W", "default", "-p", "no:cacheprovider", "-q", "--tb", "short", f"--rootdir={ROOT}"]
    words += ["--collect-only"] if options.device == "cpu" else []
    code = int(pytest.main([*words, *files()], plugins=[kept]))
    if options.json:
        options.json.write_text(json.dumps(result(kept), indent=1) + "\n")
    if options.device == "cpu":
        return code
    ran = [each for each in kept.outcomes.values() if each != "skipped"]
    if not ran:
        print("no test ran", file=sys.stderr)
    return code if ran else code or 1


def files() -> list[str]:
    """The files of tests in which any test needs a CUDA device."""
    return [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text("utf-8")]


def result(kept: Outcomes) -> dict[str, Any]:
    counts = {state: list(kept.outcomes.values()).count(state) for state in ("passed", "failed", "skipped")}
    return {"collected": len(kept.collected), **counts, "outcomes": kept.outcomes, "reasons": kept.reasons}


if __name__ == "__main__":
    sys.exit(main())
