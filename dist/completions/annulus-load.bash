# Completions of annulus-load for bash.

_annulus_load() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    # Bash splits --flag=value into three words.
    [ "$word" != = ] || word=
    [ "$before" != = ] || before=${COMP_WORDS[COMP_CWORD-2]}
    local words
    case $before in
        -c | --config | --torrents-file | --ca | --json)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --arrivals)
            words="random even"
            ;;
        --popularity)
            words="zipf gamma even"
            ;;
        --engine)
            words="auto io_uring epoll"
            ;;
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
            --loss-timeout | \
            --id-lifetime | \
            --sockets | \
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
        *)
            words="-c -p -h -V --config --print-config --help --version --url --path-suffix --workers --connections --duration --requests --requests-per-connection --pipeline --rate --arrivals --timeout --loss-timeout --id-lifetime --sockets --torrents --torrents-file --popularity --zipf-exponent --gamma-shape --gamma-scale --peers --seeders --scrapes --hashes-per-scrape --numwant --sources --only-ours --allow --insecure --ca --resume --engine --seed --json"
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o filenames -F _annulus_load annulus-load
