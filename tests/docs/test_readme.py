"""What README.md shows really runs: its programs and commands, in order, in one empty folder."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(python|sh|yaml)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_program_and_command_runs(tmp_path: Path) -> None:
    printed = []
    for name in ("main.py", "fit.yaml"):
        shutil.copy(ROOT / "examples" / "sweep" / name, tmp_path)
    for number, (language, text) in enumerate(BLOCKS):
        if language == "python":
            script = tmp_path / f"block{number}.py"
            script.write_text(text)
            printed.append(run([sys.executable, script.name], tmp_path))
        elif language == "yaml":  # its first line is a comment with the file's name
            (tmp_path / text.split()[1]).write_text(text)
        else:
            for line in text.splitlines():
                program, *arguments = shlex.split(line, comments=True)
                assert program == "lightning-nas"
                printed.append(run([sys.executable, "-m", "lightning_nas.cli", *arguments], tmp_path))
    assert "'val_acc': 0.9" in printed[0]
    assert (tmp_path / "swept/best/config.yaml").is_file()
    assert (tmp_path / "quickstart/best/net.py").is_file()
    assert len(list((tmp_path / "quickstart/trials").iterdir())) == 6


def test_the_quick_start_takes_about_thirty_lines() -> None:
    assert len(BLOCKS[0][1].splitlines()) <= 32


def test_every_link_leads_to_a_file_of_the_project() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert links
