# Completion of hafailoverctl for fish: hafailoverctl itself says what may come next, a word and a tab and its meaning.
# Installed as /usr/share/fish/vendor_completions.d/hafailoverctl.fish.
function __hafailoverctl_complete
    set -l words (commandline -opc) (commandline -ct)
    hafailoverctl complete -- $words[2..-1] 2>/dev/null
end
complete -c hafailoverctl -f -a '(__hafailoverctl_complete)'
# These take files as well.
complete -c hafailoverctl -n '__fish_seen_subcommand_from check replay' -F
