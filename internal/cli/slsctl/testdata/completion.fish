# slsctl fish shell completion

function __fish_slsctl_no_subcommand --description 'Test if there has been any subcommand yet'
    for i in (commandline -opc)
        if contains -- $i apply list show usage delete schema completion
            return 1
        end
    end
    return 0
end

complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l socket -s s -r -d 'qned\'s admin API: `unix:PATH`, or HOST:PORT with --cert, --key and --ca'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l cert -r -d 'client certificate for HOST:PORT, a PEM `FILE`'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l key -r -d 'the certificate\'s key, a PEM `FILE`'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l ca -r -d 'authority of qned\'s certificate, a PEM `FILE`'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l output -s o -r -d '`FORMAT` of the answer: table, json or yaml'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l help -s h -d 'show help'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l version -s v -d 'print the version'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l help -s h -d 'show help'
complete -c slsctl -n '__fish_slsctl_no_subcommand' -f -l version -s v -d 'print the version'
complete -c slsctl -n '__fish_seen_subcommand_from apply' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'apply' -d 'create and change SLSs from YAML files'
complete -c slsctl -n '__fish_seen_subcommand_from apply' -f -l file -s f -r -d 'YAML `FILE` with one or more documents, - for standard input; may be repeated'
complete -c slsctl -n '__fish_seen_subcommand_from apply' -f -l dry-run -d 'only say what would be done'
complete -c slsctl -n '__fish_seen_subcommand_from list' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'list' -d 'list the SLSs'
complete -c slsctl -n '__fish_seen_subcommand_from show' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'show' -d 'show one SLS, whole'
complete -c slsctl -n '__fish_seen_subcommand_from usage' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'usage' -d 'show what of the SLSs is in use'
complete -c slsctl -n '__fish_seen_subcommand_from usage' -f -l at -r -d '`TIME` in RFC 3339, e.g. 2027-01-01T20:00:00Z (default: now)'
complete -c slsctl -n '__fish_seen_subcommand_from delete' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'delete' -d 'delete SLSs'
complete -c slsctl -n '__fish_seen_subcommand_from schema' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'schema' -d 'print the form of an SLS as JSON Schema or YANG'
complete -c slsctl -n '__fish_seen_subcommand_from completion' -f -l help -s h -d 'show help'
complete -r -c slsctl -n '__fish_slsctl_no_subcommand' -a 'completion' -d 'print the completion script for a shell'
complete -c slsctl -n '__fish_seen_subcommand_from completion' -f -l help -s h -d 'show help'
