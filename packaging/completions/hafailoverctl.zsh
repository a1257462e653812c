#compdef hafailoverctl
# Completion of hafailoverctl for zsh: hafailoverctl itself says what may come next, a word and a tab and its meaning.
# Installed as /usr/share/zsh/site-functions/_hafailoverctl.
local -a candidates
local word about
while IFS=$'\t' read -r word about; do
    candidates+=("${word//:/\\:}:$about")
done < <(hafailoverctl complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
# Where nothing is said, files are.
if (( $#candidates )); then
    _describe hafailoverctl candidates
else
    _files
fi
