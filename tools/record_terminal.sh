#!/usr/bin/env bash
# Record docs/terminal.svg: what the README shows of the terminal. Real commands, about photos of scikit-image.
# Needs asciinema (2.x) and termtosvg in an environment of its own, and mmsearch with the extra `demo`:
#   tools/record_terminal.sh docs/terminal.svg
set -euo pipefail
output=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
source=$(python -c 'import skimage; print(skimage.data_dir)')
mkdir "$folder/photos"
number=0
for photo in astronaut.png camera.png chelsea.png coffee.png motorcycle_left.png motorcycle_right.png \
    coins.png grass.png brick.png page.png rocket.jpg hubble_deep_field.jpg retina.jpg; do
    number=$((number + 1))
    cp "$source/$photo" "$(printf '%s/photos/IMG_%04d.%s' "$folder" "$number" "${photo##*.}")"
done
cat >"$folder/session.sh" <<'SESSION'
type_it() {
    printf '\033[32m$\033[0m '
    for ((i = 0; i < ${#1}; i++)); do printf '%s' "${1:i:1}"; sleep 0.04; done
    sleep 0.4; printf '\n'
    eval "$1"
    sleep 2
}
cd ~/photos
type_it 'mmsearch "a motorbike in a garage" -k 2'
type_it 'mmsearch "一只猫" -k 1'
type_it 'mmsearch "a hot drink on a table" -k 1 -p'
SESSION
cd "$folder"
export TERM=xterm-256color COLORTERM=truecolor HOME=$folder XDG_DATA_HOME=$folder/data XDG_CONFIG_HOME=$folder/config LC_ALL=C.UTF-8
mmsearch config set encoder starter >/dev/null
asciinema rec --quiet --overwrite --cols 84 --rows 24 --command "bash session.sh" session.cast
termtosvg render session.cast "$output" --min-frame-duration 40 --loop-delay 4000
