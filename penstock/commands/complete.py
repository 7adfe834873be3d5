"""`penstock complete`: print a script that completes verbs and flags in a shell."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from penstock.output import Report

HELP = "print a completion script for a shell"
DESCRIPTION = "Print a script that completes verbs, flags and files in a shell."
EXAMPLE = 'eval "$(penstock complete bash)"'

Flags = Mapping[str, Sequence[str]]
"""The flags of each verb."""

_BASH: Final = """\
_penstock() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" flags=""
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{verbs}" -- "$word")); return; fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _penstock penstock"""

_ZSH: Final = """\
_penstock() {{
  local -a flags
  if (( CURRENT == 2 )); then compadd -- {verbs}; return; fi
  case "$words[2]" in
{cases}
  esac
  [[ "$PREFIX" == -* ]] && compadd -- $flags || _files
}}
compdef _penstock penstock"""


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the shell's name."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS), help="the shell to complete in")


def run(arguments: argparse.Namespace) -> "Report":
    """Return the script."""
    from penstock.main import build_parser
    from penstock.output import Report

    script = _SCRIPTS[arguments.shell](_flags_by_verb(build_parser()))
    return Report(result={"shell": arguments.shell, "script": script}, text=[script])


def _flags_by_verb(parser: argparse.ArgumentParser) -> Flags:
    # argparse has no public list of what was added; completion libraries read the same attribute.
    verbs = next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {
        name: [flag for action in verb._actions for flag in action.option_strings if flag.startswith("--")]
        for name, verb in verbs.items()
    }


def _bash(flags: Flags) -> str:
    cases = "\n".join(f'    {verb}) flags="{" ".join(names)}" ;;' for verb, names in flags.items())
    return _BASH.format(verbs=" ".join(flags), cases=cases)


def _zsh(flags: Flags) -> str:
    cases = "\n".join(f"    {verb}) flags=({' '.join(names)}) ;;" for verb, names in flags.items())
    return _ZSH.format(verbs=" ".join(flags), cases=cases)


def _fish(flags: Flags) -> str:
    lines = [f"complete -c penstock -n __fish_use_subcommand -f -a '{' '.join(flags)}'"]
    for verb, names in flags.items():
        condition = f"-n '__fish_seen_subcommand_from {verb}'"
        lines += [f"complete -c penstock {condition} -l {name.removeprefix('--')}" for name in names]
    return "\n".join(lines)


_SCRIPTS: Final[Mapping[str, Callable[[Flags], str]]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
