#!/usr/bin/env bash
# RunPod over plain ssh, with one network volume. Read README.md first.
set -euo pipefail

provider=runpod
default_base=/workspace # where a network volume is mounted
provider_actions='  off                  what is still billed on this account (needs runpodctl at home)'

# The results came from $host. Which pod that is, it says itself; a shell that came over ssh may
# lack the variable, and then process 1 has it.
check_machine() {
  local ask="printenv RUNPOD_POD_ID || tr '\\0' '\\n' </proc/1/environ | sed -n s/^RUNPOD_POD_ID=//p" pod
  printf '+ %s\n' "$(quoted ssh "$host" "$ask")"
  [ -z "$DRY_RUN" ] || return 0
  # shellcheck disable=SC2029
  pod=$(ssh "$host" "$ask")
  [ -n "$pod" ] || echo "note: $host does not say which pod it is; compare its address in the console" >&2
  [ -z "$pod" ] || [ "$pod" = "$1" ] || die "$host is pod $pod and not $1; nothing was done"
}

# runpodctl keeps its key in its own file; it stands on no command line.
terminate_machine() {
  if [ -z "$DRY_RUN" ] && ! command -v runpodctl >/dev/null; then
    die "runpodctl is not installed here: terminate pod $1 in the console (the bin, not the square)"
  fi
  run runpodctl pod delete "$1"
}

off() {
  run runpodctl pod list --all
  run runpodctl network-volume list
  run runpodctl user
  echo "Off means: no pod in the list, and currentSpendPerHr is 0, or the volume's share if you keep it."
}

off_checklist() {
  cat <<'TEXT'
Now make sure, in this order:
  1. runpod.sh off: no pod is listed, stopped ones included.
  2. The console's Pods page is empty too.
  3. The network volume is billed as long as it exists. Done for good? Then
     runpodctl network-volume delete VOLUME_ID
  4. Look at the balance tomorrow: it is the same, or less by the volume's share.
TEXT
}

provider_action() {
  [ "$1" = off ] || die "unknown action $1; see --help"
  off
}

# shellcheck source-path=SCRIPTDIR source=home.sh disable=SC1091
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/home.sh"
main "$@"
