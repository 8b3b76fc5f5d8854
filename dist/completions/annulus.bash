# Completions of annulus for bash.

_annulus() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    # Bash takes --flag=value for three words.
    [ "$word" != = ] || word=
    [ "$before" != = ] || before=${COMP_WORDS[COMP_CWORD-2]}
    local words
    case $before in
        -c | --config)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
    esac
    words="-c --config -p --print-config --check-config -h --help -V --version"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o filenames -F _annulus annulus
