# Completions of annulus for fish.

complete -c annulus -f
complete -c annulus -s c -l config -r -F -d 'Read the configuration from FILE; without it, use the defaults'
complete -c annulus -s p -l print-config -d 'Print the default configuration, with comments, and exit'
complete -c annulus -l check-config -d 'List the errors of the configuration, if any, and exit'
complete -c annulus -s h -l help -d 'Print this help and exit'
complete -c annulus -s V -l version -d 'Print the version and exit'
