import shutil
import subprocess

import pytest

from penstock.arguments import VERBS
from penstock.main import main


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_a_script_names_every_verb_and_its_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert "reward-bounds" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_verb_and_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    main(["complete", "bash"])
    script = capsys.readouterr().out
    ask = (
        'COMP_WORDS=(penstock eva); COMP_CWORD=1; _penstock; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(penstock evaluate --weight); COMP_CWORD=2; _penstock; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["evaluate", "--weight-bound"]
