"""The script for bash: it needs nothing beside bash 4."""

from __future__ import annotations

from .kinds import groups, kind_of_value, kind_of_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Command
    from .kinds import Kind

__all__ = ["script"]

HEAD = r"""# Completion of viscum for bash, from: viscum completion bash
_viscum_options() {
    case $1 in
@OPTIONS@
    esac
}
_viscum_value() {
    case $1 in
@VALUES@
    *) return 1 ;;
    esac
}
_viscum_words() {
    case $1 in
@WORDS@
    esac
}
_viscum_offer() {
    local current=$1 word name count
    local -a found=()
    shift
    for word in "$@"; do
        case $word in
        files)
            count=${#found[@]}
            mapfile -t -O ${#found[@]} found < <(compgen -f -- "$current")
            # Readline would quote what is no file, too.
            ((${#found[@]} > count)) && compopt -o filenames 2>/dev/null
            ;;
        names:*)
            mapfile -t -O ${#found[@]} found < <(viscum __names "${word#names:}" 2>/dev/null)
            ;;
        *) found+=("$word") ;;
        esac
    done
    for name in "${found[@]}"; do
        [[ $name == "$current"* ]] && COMPREPLY+=("$name")
    done
    [[ ${COMPREPLY[0]-} == *: ]] && compopt -o nospace 2>/dev/null
    return 0
}
_viscum() {
    COMPREPLY=()
    local line=${COMP_LINE:0:COMP_POINT} current word command="" option="" value given=0
    local -a words=() offered=()
    local passes=" @PASSES@ "
    # Words as the shell splits them, not as COMP_WORDBREAKS does.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$((${#words[@]} - 1)) at=1
    current=${words[last]}
    if ((last <= 1)); then
        _viscum_offer "$current" @FIRST@
        return
    fi
    command=${words[1]}
    case $command in
@GROUPS@
    esac
    ((at++))
    while ((at < last)); do
        word=${words[at]}
        if [[ $word == -- ]]; then
            option="" given=1
            break
        elif [[ -n $option ]]; then
            option=""
        elif [[ $word == -?* ]]; then
            [[ $word != *=* ]] && _viscum_value "$command $word" >/dev/null && option=$word
        else
            given=1
            [[ $passes == *" ${command// /_} "* ]] && break
        fi
        ((at++))
    done
    local prefix=""
    if [[ -z $option && $current == --*=* ]]; then
        option=${current%%=*} prefix=${current%%=*}=
        current=${current#*=}
    fi
    if [[ -n $option ]]; then
        value=$(_viscum_value "$command $option") && read -ra offered <<<"$value"
        _viscum_offer "$current" "${offered[@]}"
    elif [[ $current == -* ]] && [[ $given == 0 || $passes != *" ${command// /_} "* ]]; then
        read -ra offered <<<"$(_viscum_options "$command")"
        _viscum_offer "$current" "${offered[@]}"
    elif [[ $given == 1 && $passes == *" ${command// /_} "* ]]; then
        _viscum_offer "$current" files
    else
        read -ra offered <<<"$(_viscum_words "$command")"
        _viscum_offer "$current" "${offered[@]}"
    fi
    # Readline replaces only what stands after the last of its own word breaks.
    if [[ -n $prefix && $COMP_WORDBREAKS != *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]/#/$prefix}")
    fi
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local colon=${current%"${current##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$colon"}")
    fi
    return 0
}
complete -F _viscum viscum
"""


def _offer(kind: Kind) -> str:
    names = [f"names:{kind.names}"] if kind.names else []
    return " ".join([*kind.words, *names, *(["files"] if kind.files else [])])


def _group(first: str, seconds: list[str]) -> str:
    return (
        f"    {first})\n"
        "        if ((last == 2)); then\n"
        f'            _viscum_offer "$current" {" ".join(seconds)}\n'
        "            return\n"
        "        fi\n"
        '        command+=" ${words[2]}" at=2\n'
        "        ;;"
    )


def script(listed: list[Command]) -> str:
    """Return the script."""
    options, values, words = [], [], []
    for command in listed:
        flags = " ".join(flag for option in command.options for flag in option.flags)
        options.append(f"    '{command.name}') echo '{flags}' ;;")
        words.append(f"    '{command.name}') echo '{_offer(kind_of_words(command))}' ;;")
        for option in command.options:
            if option.value:
                keys = "|".join(f"'{command.name} {flag}'" for flag in option.flags)
                values.append(f"    {keys}) echo '{_offer(kind_of_value(option))}' ;;")
    found = groups([command.name for command in listed])
    first = " ".join([*found.pop(""), *found])
    parts = {
        "OPTIONS": "\n".join(options),
        "VALUES": "\n".join(values),
        "WORDS": "\n".join(words),
        "FIRST": first,
        "GROUPS": "\n".join(_group(name, seconds) for name, seconds in found.items()),
        "PASSES": " ".join(c.name.replace(" ", "_") for c in listed if c.passes),
    }
    text = HEAD
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text
