# Completions of annulus-load for bash.

_annulus_load() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    # Bash takes --flag=value for three words.
    [ "$word" != = ] || word=
    [ "$before" != = ] || before=${COMP_WORDS[COMP_CWORD-2]}
    local words
    case $before in
        --url | \
            --path-suffix | \
            --workers | \
            --connections | \
            --duration | \
            --requests | \
            --requests-per-connection | \
            --pipeline | \
            --rate | \
            --timeout | \
            --torrents | \
            --zipf-exponent | \
            --gamma-shape | \
            --gamma-scale | \
            --peers | \
            --seeders | \
            --scrapes | \
            --hashes-per-scrape | \
            --numwant | \
            --sources | \
            --allow | \
            --seed)
            return
            ;;
        -c | --config)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --arrivals)
            mapfile -t COMPREPLY < <(compgen -W "random even" -- "$word")
            return
            ;;
        --torrents-file)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --popularity)
            mapfile -t COMPREPLY < <(compgen -W "zipf gamma even" -- "$word")
            return
            ;;
        --ca)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --engine)
            mapfile -t COMPREPLY < <(compgen -W "auto io_uring epoll" -- "$word")
            return
            ;;
        --json)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --plot)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
    esac
    words="-c --config -p --print-config -h --help --url --path-suffix --workers --connections --duration --requests --requests-per-connection --pipeline --rate --arrivals --timeout --torrents --torrents-file --popularity --zipf-exponent --gamma-shape --gamma-scale --peers --seeders --scrapes --hashes-per-scrape --numwant --sources --only-ours --allow --insecure --ca --resume --engine --seed --json --plot"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o filenames -F _annulus_load annulus-load
