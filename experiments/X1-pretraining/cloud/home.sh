# shellcheck shell=bash
# What you type at home, whoever rents you the machine. Sourced by runpod.sh and lambda.sh, which
# set three words and define `check_machine`, `terminate_machine`, `off_checklist`, `provider_action`.
: "${provider:?}" "${provider_actions:?}" "${default_base:?}"

usage() {
  cat <<TEXT
usage: $provider.sh [--dry-run] [--host HOST] [--base FOLDER] ACTION [ARGUMENTS]      at home

  push [TEXT ...]      send the code (what is committed), the ledger, and text files; refused while
                       another machine has the ledger
  setup                install on the machine; some minutes, billed
  start OPTIONS        the lab in tmux, its watchdog beside it (options: $provider.sh options)
  status               the card, the end of the log, the watchdog, the account
  attach               look at the session; leave it with Ctrl-b d
  jupyter              JupyterLab through an ssh tunnel, at http://127.0.0.1:8888
  stop                 save and end the run; the machine stays, and is billed
  fetch [--small]      bring the results home; --small: without the model's weights
  end [--yes] ID       stop, fetch, compare every byte, then terminate machine ID
$provider_actions
  --host HOST          as in ~/.ssh/config (default: x1)
  --base FOLDER        on the machine, for everything (default: $default_base)
  --dry-run            only say what would be done

Every action may be repeated: after a lost connection, type it again.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh disable=SC1091
. "$here/common.sh"
lab=experiments/X1-pretraining
box=$lab/cloud/box.sh
records=(run-cloud/manifest.json scaling-law/design.json) # of lab00 and lab01: whose results they are
results=(--include '/run-cloud/***' --include '/scaling-law/***' --exclude '*')

away=$lab/ledger.away # see take_away in common.sh

on_box() { # a command in the clone on the machine
  run ssh "$host" "cd $(quoted "$base/x1") && bash $box $(quoted "$@")"
}

push() {
  local branch bundle=$project/build/x1.bundle
  take_away
  if [ -n "$(git -C "$project" status --porcelain --untracked-files=no)" ]; then
    echo "note: changes that are not committed stay at home" >&2
  fi
  run ssh "$host" "mkdir -p $(quoted "$base/text"); $tools"
  branch=$(git -C "$project" branch --show-current)
  run mkdir -p "$project/build"
  run git -C "$project" bundle create "$bundle" HEAD ${branch:+"$branch"}
  run rsync -P "$bundle" "$host:$base/x1.bundle"
  run ssh "$host" "cd $(quoted "$base") && if [ -d x1/.git ]; then git -C x1 fetch ../x1.bundle HEAD &&
    git -C x1 merge --ff-only FETCH_HEAD; else git clone x1.bundle x1; fi"
  if [ -e "$project/$lab/ledger.jsonl" ]; then
    run rsync "$project/$lab/ledger.jsonl" "$host:$base/ledger.sent"
    on_box ledger ../ledger.sent
  fi
  [ $# -eq 0 ] || run rsync -P --partial "$@" "$host:$base/text/"
}

# What a fresh image may lack; the first of the commands that the scripts need decides.
# shellcheck disable=SC2016
tools='for tool in git make rsync tmux; do command -v $tool >/dev/null || missing=1; done
  if [ -n "${missing:-}" ]; then sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q && $sudo apt-get install -y -q git make rsync tmux; fi'

left_there=(--exclude state/ --exclude '*lock' --exclude '*.db*')

run_id() {
  sed -n 's/^ *"run_id": "\([^"]*\)".*/\1/p' "$1" 2>/dev/null || true
}

# $1: meter, or last where the machine is ended next. Includes and excludes, since a file that is
# not there yet is no error then.
fetch_ledger() {
  local came=$project/build/fetched
  on_box "$1" || echo "note: $host has not metered its last hours; the ledger ends with its newest line" >&2
  run mkdir -p "$came"
  run rsync -a --include ledger.jsonl --exclude '*' "$host:$base/x1/$lab/" "$came/"
  [ -n "$DRY_RUN" ] || (take_ledger "$came/ledger.jsonl" "$project/$lab/ledger.jsonl") || add_ledger
}

# Two that parted, since something was billed at home meanwhile: the sum of both, never one of them.
add_ledger() {
  (cd "$project" && run "${PYTHON:-python}" -m x1lib.budget_guard "$lab/ledger.jsonl" --take build/fetched/ledger.jsonl) ||
    die "the ledgers of $host and of home could not be added up; nothing was terminated"
}

fetch() {
  local there=$host:$base/x1/$lab here=$project/$lab small=() came=$project/build/fetched
  local record folder number
  [ "${1:-}" != --small ] || small=(--exclude '*.safetensors')
  fetch_ledger meter
  run rm -rf "$came/run-cloud" "$came/scaling-law"
  run mkdir -p "$came" "$here" "$project/papermill_runs"
  run rsync -a --include '/*/' --include manifest.json --include design.json --exclude '*' "$there/" "$came/"
  for record in "${records[@]}"; do
    folder=${record%/*} number=1
    if [ -z "$DRY_RUN" ] && [ -d "$came/$folder" ] && [ -e "$here/$record" ] &&
      [ "$(run_id "$came/$record")" != "$(run_id "$here/$record")" ]; then
      while [ -e "$here/$folder-before-$number" ]; do number=$((number + 1)); done
      run mv "$here/$folder" "$here/$folder-before-$number" # another run's: kept
    fi
  done
  run rsync -a --partial "${left_there[@]}" ${small[@]+"${small[@]}"} "${results[@]}" "$there/" "$here/"
  run rsync -a --exclude '.*' "$host:$base/x1/papermill_runs/" "$project/papermill_runs/"
  echo "Results: run-cloud and scaling-law in $lab, what there was of them; logs: papermill_runs"
}

# Every byte again, read on both sides. Nothing may differ before the only other copy is deleted.
compare() {
  local differing command there=$host:$base/x1/$lab/ here=$project/$lab
  command=(rsync -anc "${left_there[@]}" --out-format=%n "${results[@]}" "$there" "$here/")
  printf '+ %s\n' "$(quoted "${command[@]}")"
  [ -z "$DRY_RUN" ] || return 0
  differing=$("${command[@]}")
  differing=$(grep -v '/$' <<<"$differing" || true)
  [ -z "$differing" ] || die "these files differ from those on the machine, which goes on: $differing"
  [ -e "$here/run-cloud/manifest.json" ] || [ -e "$here/scaling-law/design.json" ] ||
    die "neither run-cloud/manifest.json nor scaling-law/design.json came home; the machine goes on"
}

end() {
  local yes='' answer
  if [ "${1:-}" = --yes ]; then
    yes=1
    shift
  fi
  local machine=${1:-}
  [[ $machine =~ ^[A-Za-z0-9-]+$ ]] || die "give the machine's ID, as the provider's console shows it"
  check_machine "$machine"
  on_box stop
  fetch --all
  compare
  if [ -z "$yes$DRY_RUN" ]; then
    printf 'The results are home. Type "terminate" to delete machine %s: ' "$machine"
    read -r answer
    [ "$answer" = terminate ] || die "not terminated: machine $machine goes on, and is billed"
  fi
  fetch_ledger last
  terminate_machine "$machine"
  [ -n "$DRY_RUN" ] || rm -f "$project/$away"
  off_checklist
}

jupyter() {
  on_box jupyter
  echo "Address and token:  ssh $host '~/x1-venv/bin/jupyter server list'"
  echo "The tunnel holds until Ctrl-C; the lab does not need it."
  # Loopback on both ends: nobody but you can reach it.
  run ssh -N -L 127.0.0.1:8888:127.0.0.1:8888 "$host"
}

main() {
  host=x1 base=$default_base project=$(cd "$here/../../.." && pwd)
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) DRY_RUN=1 ;;
      --host | --base)
        [ $# -gt 1 ] || die "$1 needs a value; see --help"
        [[ $2 =~ ^[A-Za-z0-9_./@:-]+$ ]] || die "$1 is '$2'; expected letters, digits and ._-/@:"
        if [ "$1" = --host ]; then host=$2; else base=$2; fi
        shift
        ;;
      *) break ;;
    esac
    shift
  done
  local action=${1:---help}
  [ $# -eq 0 ] || shift
  case $action in
    -h | --help | help) usage ;;
    options) bash "$here/box.sh" --help ;;
    push | fetch | end | jupyter) "$action" "$@" ;;
    setup | status | stop) on_box "$action" ;;
    start)
      bash "$here/box.sh" --dry-run start "$@" >/dev/null # a misspelt option is found at home
      take_away
      on_box start "$@"
      ;;
    attach) run ssh -t "$host" tmux attach -t "${X1_TMUX:-x1}" ;;
    *) provider_action "$action" "$@" ;;
  esac
}
