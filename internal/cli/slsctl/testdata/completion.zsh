#compdef slsctl
# zsh completion for slsctl; put it into a folder of your fpath, e.g.
#   slsctl completion zsh > "${fpath[1]}/_slsctl"
_slsctl() {
    local cur="${words[CURRENT]}"
    local -a found
    if [[ "$cur" == -* ]]; then
        found=("${(@f)$(${words[1,CURRENT-1]} "$cur" --generate-bash-completion 2>/dev/null)}")
    else
        found=("${(@f)$(${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
    fi
    compadd -a found
    _files
}
if [ "$funcstack[1]" = "_slsctl" ]; then _slsctl "$@"; else compdef _slsctl slsctl; fi
