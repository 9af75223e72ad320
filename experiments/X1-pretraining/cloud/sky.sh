#!/usr/bin/env bash
# At home: lab00 by SkyPilot. The account goes with the job, and comes home with its results.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: sky.sh [--dry-run] ACTION BUCKET [...]      at home; BUCKET: your own bucket's name

  launch BUCKET [OPTIONS]   'sky jobs launch' with the ledger of this folder, which stays away until
                            'home'; refused while another machine or job has it. OPTIONS are sky's,
                            such as --env X1_HOURS=12
  home BUCKET FOLDER        when the job is over: FOLDER is your copy of the bucket's run-cloud
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh disable=SC1091
. "$here/common.sh"
project=$(cd "$here/../../.." && pwd)
lab=experiments/X1-pretraining
away=$lab/ledger.away

launch() {
  host=sky-$bucket provider=sky
  take_away
  cd "$project"
  [ -n "$DRY_RUN" ] || touch "$lab/ledger.jsonl" # empty: nothing was spent yet
  run sky jobs launch -n x1 "$lab/cloud/sky.yaml" --env "X1_BUCKET=$bucket" "$@"
}

home() {
  local copy=${1:-} holder=''
  [ -n "$copy" ] || die "give the folder with your copy of the bucket's run-cloud"
  [ -n "$DRY_RUN" ] || copy=$(cd "$copy" && pwd)
  cd "$project"
  [ ! -e "$away" ] || read -r holder _ <"$away"
  [ -z "$holder" ] || [ "$holder" = "sky-$bucket" ] || die "$holder has the account, and not sky-$bucket"
  run "${PYTHON:-python}" "$lab/cloud/bucket.py" restore "$lab/run-cloud" "$copy"
  [ -n "$DRY_RUN" ] || rm -f "$away"
}

if [ "${1:-}" = --dry-run ]; then
  DRY_RUN=1
  shift
fi
action=${1:---help}
case $action in
  -h | --help | help) usage ;;
  launch | home)
    bucket=${2:-}
    [[ $bucket =~ ^[a-z0-9][a-z0-9._-]+$ ]] || die "BUCKET is '$bucket'; expected your own bucket's name"
    shift 2
    "$action" "$@"
    ;;
  *) die "unknown action $action; see --help" ;;
esac
