# SPDX-License-Identifier: Apache-2.0
"""Completions for bash, zsh and fish, made from the table: commands, options, their values, and the IDs of containers.

Sources: bash(1), "Programmable Completion"; zshcompsys(1); fish's complete(1)
"""

from __future__ import annotations

from ocirun.cli.parser import UsageError
from ocirun.cli.signals import SIGNALS
from ocirun.cli.table import COMMANDS, GLOBAL_OPTIONS, HELP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.parser import Invocation
    from ocirun.cli.table import Command, Option

SHELLS = ("bash", "zsh", "fish")
#: Where each shell looks for the script, below the prefix of the installation.
PLACES = {
    "bash": "share/bash-completion/completions/ocirun",
    "zsh": "share/zsh/site-functions/_ocirun",
    "fish": "share/fish/vendor_completions.d/ocirun.fish",
}
_SIGNALS = tuple(name.removeprefix("SIG") for name in SIGNALS)


def completion(invocation: Invocation) -> int:
    """The command `completion`."""
    from ocirun.cli import print_text

    shell = invocation.arguments[0]
    if shell not in SHELLS:
        raise UsageError(f"{shell!r} is none of {', '.join(SHELLS)}")
    print_text(script(shell))
    return 0


def script(shell: str) -> str:
    """Return the script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _shown(options: Sequence[Option]) -> list[Option]:
    return [option for option in options if option.help is not None]


def _all_options(command: Command) -> list[Option]:
    return _shown((*command.options, HELP))


def _names(option: Option) -> list[str]:
    return [f"--{option.name}", *(f"-{letter}" for letter in option.short if letter != "?")]


def _words_of(name: str) -> Sequence[str] | None:
    """Return what an argument can be, or a value, as far as that is a list of words."""
    bare = name.strip("[]")
    words = {
        "SIGNAL": _SIGNALS,
        "COMMAND": tuple(command.name for command in COMMANDS),
        "ENGINE": ("podman", "docker", "containerd", "crio"),
        "SHELL": SHELLS,
    }.get(bare)
    if words is None and "|" in bare:
        words = tuple(bare.split("|"))
    return words


def _kind(name: str) -> str:
    """Return what stands for an argument or value in a script: "ids", "dirs", "files", "nothing", or words."""
    words = _words_of(name)
    if words is not None:
        return " ".join(words)
    bare = name.strip("[]").split()[0]
    return {"ID": "@ids", "DIR": "@dirs", "BUNDLE": "@dirs", "FILE": "@files", "PATH": "@files"}.get(bare, "@nothing")


def _value_kind(option: Option) -> str:
    return " ".join(option.choices) if option.choices else _kind(option.value or "")


# bash

_BASH = """\
# bash completion for ocirun.  Made from the table of the command line.
_ocirun_ids() {
    ocirun ${root:+--root "$root"} list --quiet 2>/dev/null
}

# What the value of an option is: words, or a kind that begins with @; fails for a switch.
_ocirun_value() {
    case "$1 $2" in
@VALUES@
    *) [ -n "$1" ] && _ocirun_value '' "$2" ;;
    esac
}

_ocirun_reply() {
    local IFS=$' \\n'
    case "$1" in
    @ids) COMPREPLY=($(compgen -W "$(_ocirun_ids)" -- "$2")) ;;
    @dirs) IFS=$'\\n' && COMPREPLY=($(compgen -d -- "$2")) && compopt -o filenames ;;
    @files) IFS=$'\\n' && COMPREPLY=($(compgen -f -- "$2")) && compopt -o filenames ;;
    @nothing | '') COMPREPLY=() ;;
    *) COMPREPLY=($(compgen -W "$1" -- "$2")) ;;
    esac
}

_ocirun() {
    local cur=${COMP_WORDS[COMP_CWORD]} command='' root='' count=0 kind='' word options arguments=()
    local i=1
    for ((; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$word" in
        -*)
            [[ $word = -[!-]?* ]] && word=-$word
            if kind=$(_ocirun_value "$command" "$word"); then
                [ "${COMP_WORDS[i + 1]}" = = ] && ((i++))
                ((i++))
                [ "$word" = --root ] && root=${COMP_WORDS[i]}
                if ((i >= COMP_CWORD)); then
                    [ "$cur" = = ] && cur=''
                    _ocirun_reply "$kind" "$cur"
                    return
                fi
            fi
            ;;
        *) if [ -z "$command" ]; then command=$word; else ((count++)); fi ;;
        esac
    done
    options=@GLOBAL@
    case "$command" in
    '') arguments=(@NAMES@) ;;
@COMMANDS@
    esac
    if [[ $cur = -* ]]; then
        _ocirun_reply "$options" "$cur"
    else
        _ocirun_reply "${arguments[count]}" "$cur"
    fi
}

complete -F _ocirun ocirun
"""


def _bash() -> str:
    commands = [
        f"    {command.name})\n"
        f"        options='{_flat(_all_options(command))}'\n"
        f"        arguments=({' '.join(_quote(_kind(each)) for each in command.arguments)}) ;;"
        for command in COMMANDS
    ]
    values: dict[str, list[str]] = {}
    for owner, options in (("", _shown(GLOBAL_OPTIONS)), *((each.name, _all_options(each)) for each in COMMANDS)):
        for option in options:
            if option.value is not None:
                patterns = "|".join(f"'{owner} {name}'" for name in _names(option))
                values.setdefault(_value_kind(option), []).append(patterns)
    cases = [f"    {'|'.join(patterns)}) printf '%s' {_quote(kind)} ;;" for kind, patterns in values.items()]
    made = _BASH.replace("@VALUES@", "\n".join(cases)).replace("@COMMANDS@", "\n".join(commands))
    made = made.replace("@GLOBAL@", _quote(_flat(_shown(GLOBAL_OPTIONS))))
    return made.replace("@NAMES@", _quote(" ".join(each.name for each in COMMANDS)))


def _flat(options: Sequence[Option]) -> str:
    return " ".join(f"--{option.name}" for option in options)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# zsh


def _zsh() -> str:
    described = "\n".join(f"        {_quote(f'{each.name}:{each.help}')}" for each in COMMANDS)
    cases = []
    for command in COMMANDS:
        specs = [_zsh_option(option) for option in _all_options(command)]
        specs += [_zsh_argument(each, at) for at, each in enumerate(command.arguments, 1)]
        joined = " \\\n            ".join(specs)
        cases.append(f"    {command.name})\n        _arguments -s \\\n            {joined} ;;")
    of_all = " \\\n        ".join(_zsh_option(option) for option in _shown(GLOBAL_OPTIONS))
    return f"""\
#compdef ocirun
# zsh completion for ocirun.  Made from the table of the command line.
_ocirun_ids() {{
    local -a ids
    ids=(${{(f)"$(ocirun ${{root:+--root}} $root list --quiet 2>/dev/null)"}})
    _describe container ids
}}

_ocirun() {{
    local curcontext=$curcontext root state line
    typeset -A opt_args
    local -a commands
    commands=(
{described}
    )
    _arguments -C -s \\
        {of_all} \\
        '1:command:->command' '*::argument:->argument'
    root=$opt_args[--root]
    case $state in
    command) _describe command commands; return ;;
    argument) ;;
    *) return ;;
    esac
    case $words[1] in
{chr(10).join(cases)}
    esac
}}

if [ "$funcstack[1]" = _ocirun ]; then _ocirun "$@"; else compdef _ocirun ocirun; fi
"""


def _zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, "\\" + character)
    return text


def _zsh_action(kind: str) -> str:
    actions = {"@ids": "_ocirun_ids", "@dirs": "_directories", "@files": "_files", "@nothing": " "}
    return actions.get(kind) or f"({kind})"


def _zsh_option(option: Option) -> str:
    words = _zsh_text(option.help or "")
    value = "" if option.value is None else f":{_zsh_text(option.value)}:{_zsh_action(_value_kind(option))}"
    repeatable = "*" if option.is_repeatable else ""
    names = _names(option)
    if len(names) == 1:
        return _quote(f"{repeatable}{names[0]}[{words}]{value}")
    group = repeatable or f"({' '.join(names)})"
    return f"{_quote(group)}{{{','.join(names)}}}{_quote(f'[{words}]{value}')}"


def _zsh_argument(name: str, position: int) -> str:
    kind = _kind(name)
    if name.endswith("...]"):
        return _quote(f"*:{_zsh_text(name)}: ")
    return _quote(f"{position}:{_zsh_text(name.strip('[]'))}:{_zsh_action(kind)}")


# fish


def _fish() -> str:
    lines = [
        "# fish completion for ocirun.  Made from the table of the command line.",
        "function __ocirun_ids",
        "    set -l words (commandline -opc)",
        "    set -l root",
        "    set -l at (contains -i -- --root $words); and set root --root $words[(math $at + 1)]",
        "    ocirun $root list --quiet 2>/dev/null",
        "end",
        "",
        "# How many arguments there are behind a command.",
        "function __ocirun_at",
        "    set -l words (commandline -opc)",
        "    set -l at (contains -i -- $argv[1] $words); or return 1",
        "    set -l rest $words[(math $at + 1)..-1]",
        "    test $at -lt (count $words); or set rest",
        "    test (count (string match -v -- '-*' $rest)) -eq $argv[2]",
        "end",
        "",
        "complete -c ocirun -f",
    ]
    names = " ".join(command.name for command in COMMANDS)
    lines += [
        f"complete -c ocirun -n 'not __fish_seen_subcommand_from {names}' {_fish_option(option)}"
        for option in _shown(GLOBAL_OPTIONS)
    ]
    for command in COMMANDS:
        words = f"-a {command.name} -d {_fish_quote(command.help)}"
        lines.append(f"complete -c ocirun -n 'not __fish_seen_subcommand_from {names}' {words}")
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"complete -c ocirun {seen} {_fish_option(option)}" for option in _all_options(command)]
        for at, argument in enumerate(command.arguments):
            action = _fish_action(_kind(argument))
            if action:
                lines.append(f"complete -c ocirun -n '__ocirun_at {command.name} {at}' {action}")
    return "\n".join(lines) + "\n"


def _fish_action(kind: str) -> str:
    actions = {
        "@ids": "-a '(__ocirun_ids)'",
        "@dirs": "-a '(__fish_complete_directories)'",
        "@files": "-F",
        "@nothing": "",
    }
    return actions[kind] if kind in actions else f"-a {_fish_quote(kind)}"


def _fish_option(option: Option) -> str:
    words = [f"-l {option.name}", *(f"-s {letter}" for letter in option.short if letter != "?")]
    words.append(f"-d {_fish_quote(option.help or '')}")
    if option.value is not None:
        action = _fish_action(_value_kind(option))
        words.append(f"-r {action}" if action == "-F" else f"-x {action}".rstrip())  # -x: and no files
    return " ".join(words)


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
