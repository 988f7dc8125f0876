"""A short run of the fuzzing campaign; docs/benchmarks.md has the long ones."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.prefix).with_name(".venv-fuzz") / "bin" / "python"
SECONDS = 2


def fuzz(*targets: str) -> subprocess.CompletedProcess[str]:
    if not list(PYTHON.parents[1].glob("lib/*/site-packages/atheris")):
        pytest.skip("no atheris in .venv-fuzz (make test makes it; x86-64 only): nothing was fuzzed")
    command = [PYTHON, "-m", "tests.campaign.fuzz", *targets, f"--seconds={SECONDS}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.timeout(600)
def test_nothing_but_our_own_errors_comes_out_of_any_parser() -> None:
    done = fuzz()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing broke it") >= 17


def test_no_parser_is_known_before_the_fuzzer_can_look_into_it() -> None:
    code = "import sys, tests.campaign.fuzz as f; print({m.split('.')[0] for m in sys.modules} & {*f.INSTRUMENTED})"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "set()"


def test_the_campaign_finds_a_mistake_that_is_there() -> None:
    done = fuzz("on-purpose")
    assert done.returncode != 0
    assert "BROKEN" in done.stdout
    assert "broken on purpose" in done.stderr
