# Completions of annulus for fish.

complete -c annulus -f
complete -c annulus -s c -l config -r -F -d 'Read the configuration from FILE; without it, run on the defaults'
complete -c annulus -s p -l print-config -d 'Print the default configuration, with comments, and exit'
complete -c annulus -l check-config -d 'Say what is wrong with the configuration, if anything, and exit'
complete -c annulus -s h -l help -d 'Print this and exit'
complete -c annulus -s V -l version -d 'Print the version and exit'
