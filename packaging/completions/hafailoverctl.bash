# Completion of hafailoverctl for bash: hafailoverctl itself says what may come next, a word and a tab and its meaning.
# Installed as /usr/share/bash-completion/completions/hafailoverctl.
_hafailoverctl() {
    local word
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        COMPREPLY+=("$word")
    done < <(hafailoverctl complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
# Where nothing is said, files are.
complete -o default -F _hafailoverctl hafailoverctl
